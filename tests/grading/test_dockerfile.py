"""The Dockerfile, as far as that can be tested without Docker: what it copies and installs is there, and is enough."""

import importlib.metadata
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


PINNED = re.compile(r"^([\w-]+)==([^\s+]+)", re.MULTILINE)


def pinned(file: str) -> dict[str, str]:
    """Packages and their versions; whatever the build of PyTorch."""
    return dict(PINNED.findall((PROJECT_ROOT / file).read_text()))


def needed_by(packages: set[str]) -> set[str]:
    """Packages and all that they need, as far as it is installed here."""
    found, to_do = set[str](), {_normalized(package) for package in packages}
    while to_do:
        found.add(package := to_do.pop())
        try:
            needs = importlib.metadata.requires(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        names = (re.match(r"[\w.-]+", need) for need in needs if "extra ==" not in need)
        to_do |= {_normalized(name[0]) for name in names if name} - found
    return found


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_versions_are_those_of_the_kit() -> None:
    assert pinned("requirements-submission.txt").items() <= pinned("requirements.txt").items()
    assert f"ARG FLATLAND_RL={pinned('requirements.txt')['flatland-rl']}\n" in DOCKERFILE


def test_nothing_that_is_copied_is_ignored() -> None:
    allowed = {line[1:] for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for source, _ in COPIED} == allowed


def test_what_is_compiled_in_it_is_for_any_processor_and_user() -> None:
    before, _, compiling = DOCKERFILE.partition("\nRUN python -c ")
    assert "NUMBA_CPU_NAME=generic" in before
    assert "chmod -R a+rX /submission" in compiling


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
    installed = needed_by(set(pinned("requirements-submission.txt")))
    missing = {
        importable
        for importable, packages in importlib.metadata.packages_distributions().items()
        if not installed & {_normalized(package) for package in packages}
    }
    # None stands for what cannot be imported, though it is installed here
    code = f"import sys; sys.modules |= dict.fromkeys({sorted(missing)})\n"
    # the names alone: to make a policy, all that is compiled would be compiled anew for this folder
    code += f"import run; {names}; from {module} import {name}; print(sys.modules['run'].__file__)"
    environment = {**os.environ, "PYTHONPATH": str(image)}
    done = subprocess.run([sys.executable, "-c", code], cwd=image, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(image / "run.py"), done.stderr
