"""One page of TensorBoard, «Custom Scalars», on which a running training can be watched."""

from collections.abc import Mapping
from typing import Any

# Title of a group -> title of a chart -> patterns of metrics, each matched from the beginning of a name. TensorBoard
# gives every metric a chart of its own on its page «Time Series»; here stand those together that are read together.
_LEARNING = {
    "score": ["evaluation/scores_mean$", "evaluation/smoothed_score", "training/smoothed_score"],
    "completion": ["evaluation/completions_mean$", "evaluation/smoothed_completion", "training/smoothed_completion"],
    "trains that did not arrive": ["evaluation/deadlocked", "evaluation/never_departed"],
    "exploration": ["training/epsilon"],
    "loss": ["training/loss"],
    "actions": ["actions/"],
}
_POLICIES = {
    "score of each policy alone": [r"policy_\d+/evaluation/scores_mean"],
    "completion of each policy alone": [r"policy_\d+/evaluation/completions_mean"],
    "score in training": [r"policy_\d+/training/smoothed_score"],
    "completion in training": [r"policy_\d+/training/smoothed_completion"],
    "loss": [r"policy_\d+/training/loss"],
    "trains driven": [r"policy_\d+/training/trains_driven"],
}
_HYPERPARAMETERS = {"hyper-parameters": [r"policy_\d+/pbt/"]}
_SPEED = {
    "steps per second": ["throughput/.*_per_second"],
    "replay ratio": ["throughput/.*replay_ratio"],
    "seconds by part": ["timer/"],
    "memory in MB": ["system/.*_mb"],
}
_LAG = {
    "learning steps that play lags behind": ["lag/learning_steps"],
    "rounds that wait to be learned from": ["lag/rounds_ahead"],
    "rollout actors": ["system/rollout_actors"],
}


def layout(config: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The page in the form that ``SummaryWriter.add_custom_scalars`` takes.

    Args:
        config: of the training; charts that it has no metrics for are left out.
    """
    groups = {"learning": _LEARNING}
    if config["num_policies"] > 1:
        groups["policies"] = _POLICIES | (_HYPERPARAMETERS if config["with_pbt"] else {})
    groups["speed"] = _SPEED | (_LAG if config.get("async_rl") else {})
    return {
        group: {title: ["Multiline", list(patterns)] for title, patterns in charts.items()}
        for group, charts in groups.items()
    }


def as_markdown(config: Mapping[str, Any]) -> str:
    """The configuration as a table, for the page «Text»."""
    return "\n".join(["| option | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in sorted(config.items()))])
