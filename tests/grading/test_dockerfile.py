"""The Dockerfile, as far as that can be tested without Docker: what it copies is there, and is enough."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT

DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
COPIED = [
    (source, target)
    for *sources, target in (line.split() for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE))
    for source in sources
]


def test_nothing_that_is_copied_is_ignored() -> None:
    allowed = {line[1:] for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for source, _ in COPIED} == allowed


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in the image beside Python and its packages."""
    folder = tmp_path_factory.mktemp("image")
    for source, target in COPIED:
        place = folder / target
        if (PROJECT_ROOT / source).is_dir():
            shutil.copytree(PROJECT_ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT_ROOT / source, place)
    return folder


def test_starts_with_what_is_copied_alone(image: Path) -> None:
    (names,) = re.findall(r"^RUN python -c \"(from \S+ import \w+);", DOCKERFILE, re.MULTILINE)
    builder = dict(re.findall(r"(POLICY|OBS_BUILDER)=(\S+)", DOCKERFILE))["OBS_BUILDER"]
    module, _, name = builder.rpartition(".")
    # the names alone: to make a policy, all that is compiled would be compiled anew for this folder
    code = f"import sys, run; {names}; from {module} import {name}; print(sys.modules['run'].__file__)"
    environment = {**os.environ, "PYTHONPATH": str(image)}
    done = subprocess.run([sys.executable, "-c", code], cwd=image, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(image / "run.py"), done.stderr
