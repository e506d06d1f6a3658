"""The flatland-rl that a training needs; nothing is imported here that takes long."""

import sys
from importlib.metadata import PackageNotFoundError, version


def why_untrainable() -> str | None:
    """Why the installed flatland-rl is no use for a training, in a sentence; None where it can be used."""
    try:
        installed = version("flatland-rl")
    except PackageNotFoundError:  # most likely the environment of the README is not the active one
        return (
            f"{sys.executable} has no flatland-rl: use the Python of the environment in which requirements.txt is "
            "installed (. .venv/bin/activate)."
        )
    if tuple(int(number) for number in installed.split(".")[:2]) >= (4, 3):
        return None
    return (
        f"training needs flatland-rl 4.3.0, but {installed} is installed, which is for evaluation and submission: "
        "pip install flatland-rl==4.3.0."
    )
