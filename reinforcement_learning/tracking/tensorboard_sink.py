"""The sink that shows a training in TensorBoard.

Its page «Custom Scalars» has all main curves on one page. TensorBoard and PyTorch are imported when the sink is made,
not before: they cost seconds, and many runs do without.
"""

import functools
import math
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reinforcement_learning.tracking.metrics import Sink
from utils.levels.mixtures import split_environments

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
    "score of each policy alone": ["policy/evaluation/scores_mean"],
    "completion of each policy alone": ["policy/evaluation/completions_mean"],
    "score in training": ["policy/training/smoothed_score"],
    "completion in training": ["policy/training/smoothed_completion"],
    "epsilon": ["policy/training/epsilon"],
    "loss": ["policy/training/loss"],
    "trains driven": ["policy/training/trains_driven"],
}
# One chart each: their values are orders of magnitude apart.
HYPERPARAMETERS = (
    "learning_rate",
    "tau",
    "epsilon_scale",
    "n_step",
    "gamma",
    "shaping",
    "arrival_reward",
    "deadlock_penalty",
    "batch_size",
    "update_every",
    "advantage_learning",
    "team_reward",
)
_ENVIRONMENTS = {
    "score in each environment": ["training/[^/]+/score$"],
    "completion in each environment": ["training/[^/]+/completion$"],
    "environments that are open": ["training/environments$"],
}
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


_OF_POLICY = re.compile(r"(policy_\d+)/(.*)")


class TensorBoardSink(Sink):
    """Writes TensorBoard event files.

    TensorBoard gives each folder a colour, not each metric. So what belongs to one of several policies goes into a
    folder of its own, ``policy_03``, under names that are the same for all policies, ``policy/training/loss``: one
    chart then shows all of them.

    Args:
        resume_episode: the last episode that the resumed checkpoint has seen. TensorBoard then hides the rows of
            later episodes in older event files, so that nothing shows twice; without a row of this sink they stay.
        config: the settings of the training; with them comes a page that shows the main curves together.
    """

    keeps = "the files of TensorBoard"

    def __init__(
        self, directory: str | Path, resume_episode: int | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _let_no_thread_of_tensorboard_print_tracebacks()
        purge_step = None if resume_episode is None else resume_episode + 1
        self._make_writer = lambda folder: SummaryWriter(log_dir=str(Path(directory) / folder), purge_step=purge_step)
        self._first_step, self._config = resume_episode or 0, config
        self._writers: dict[str, Any] = {}  # folder below the directory -> what writes there
        if resume_episode is None:
            self._writer("")

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            writer = self._writers[folder] = self._make_writer(folder)
            if not folder and self._config is not None:
                writer.add_custom_scalars(layout(self._config))
                writer.add_text("configuration", as_markdown(self._config), global_step=self._first_step)
        return self._writers[folder]

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Writes the finite metrics of a folder as one event: a fraction of the cost of an event for each of them."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        values: dict[str, list[Any]] = {}
        for name, value in metrics.items():
            if math.isfinite(value):
                of_policy = _OF_POLICY.match(name)
                folder, tag = (of_policy[1], f"policy/{of_policy[2]}") if of_policy else ("", name)
                values.setdefault(folder, []).append(Summary.Value(tag=tag, simple_value=value))
        for folder, of_folder in values.items():
            self._writer(folder).file_writer.add_summary(Summary(value=of_folder), episode)
        if any(name.startswith("evaluation/") for name in metrics):
            for writer in self._writers.values():
                writer.flush()

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Shows a film, which TensorBoard plays."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as image:
            width, height = image.size
        # The file's bytes as they are: add_image would reduce a GIF to its first frame.
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self._writer("").file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=content)]), episode)

    def close(self, exit_code: int = 0) -> None:
        """Writes what is still buffered."""
        for writer in self._writers.values():
            writer.close()


@functools.cache
def _let_no_thread_of_tensorboard_print_tracebacks() -> None:
    """What fails in its thread that writes, on a full disk for example, is raised again by the sink's next call."""
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
            before(failure)

    threading.excepthook = hook


def layout(config: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The page in the form that ``SummaryWriter.add_custom_scalars`` takes."""
    groups = {"learning": _LEARNING}
    if len(split_environments(config["training_env_config"])) > 1:
        groups["environments"] = _ENVIRONMENTS
    if config["num_policies"] > 1:
        groups["policies"] = _POLICIES
        if config["with_pbt"]:
            groups["hyper-parameters"] = {name: [f"policy/pbt/{name}$"] for name in HYPERPARAMETERS}
    groups["speed"] = _SPEED | (_LAG if config.get("async_rl") else {})
    return {
        group: {title: ["Multiline", list(patterns)] for title, patterns in charts.items()}
        for group, charts in groups.items()
    }


def as_markdown(config: Mapping[str, Any]) -> str:
    """The configuration as a table, for the page «Text»."""
    return "\n".join(["| option | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in sorted(config.items()))])
