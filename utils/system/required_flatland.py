"""The flatland-rl that a training needs; nothing is imported here that takes long."""

from importlib.metadata import version


def why_untrainable() -> str | None:
    """Why the installed flatland-rl is no use for a training, in a sentence; None where it can be used."""
    installed = version("flatland-rl")
    if tuple(int(number) for number in installed.split(".")[:2]) >= (4, 3):
        return None
    return (
        f"training needs flatland-rl 4.3.0, but {installed} is installed, which is for evaluation and submission: "
        "pip install flatland-rl==4.3.0."
    )
