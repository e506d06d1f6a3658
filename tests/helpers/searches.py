"""Helpers of the tests: small sweeps."""

from pathlib import Path
from typing import Any

import yaml

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
    "buffer_size": {"value": 100},
    "buffer_min_size": {"value": 32},
    "batch_size": {"value": 16},
    "hidden_size": {"value": 16},
}


def write_sweep(path: Path, parameters: Any, **keys: Any) -> Path:
    """A sweep file; keys that are None are left out."""
    content = {
        "program": "reinforcement_learning/multi_agent_training.py",
        "method": "grid",
        "metric": {"name": "evaluation/smoothed_score", "goal": "maximize"},
        "parameters": parameters,
    } | keys
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False))
    return path
