"""Helpers of the tests: small sweeps."""

from pathlib import Path
from typing import Any

import yaml

from reinforcement_learning.search.sweep_file import Sweep, read_sweep

METRIC = "evaluation/smoothed_score"
# A training of a few seconds, most of which go into its start.
SMALL: dict[str, Any] = {
    "n_episodes": {"value": 4},
    "checkpoint_interval": {"value": 2},
    "n_evaluation_episodes": {"value": 2},
    "training_env_config": {"value": "Tiny"},
    "evaluation_env_config": {"value": "Tiny"},
    "level_workers": {"value": 0},
    "tensorboard": {"value": False},
    "learning_curve": {"value": False},
    "buffer_size": {"value": 1000},
    "buffer_min_size": {"value": 32},
}


def sweep_content(parameters: dict[str, Any] | None, **keys: Any) -> dict[str, Any]:
    """What a sweep file holds; keys that are None are left out."""
    content = {
        "program": "reinforcement_learning/multi_agent_training.py",
        "method": "random",
        "metric": {"name": METRIC, "goal": "maximize"},
        "parameters": parameters,
    } | keys
    return {key: value for key, value in content.items() if value is not None}


def write_sweep(path: Path, parameters: dict[str, Any] | None, **keys: Any) -> Path:
    """A sweep file."""
    path.write_text(yaml.safe_dump(sweep_content(parameters, **keys), sort_keys=False))
    return path


def make_sweep(folder: Path, parameters: dict[str, Any], **keys: Any) -> Sweep:
    """A sweep, read from a file."""
    return read_sweep(write_sweep(folder / "sweep.yaml", parameters, **keys))
