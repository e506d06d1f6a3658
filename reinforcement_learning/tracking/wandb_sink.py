"""The sink that shows a training in Weights & Biases.

The library is imported when the sink is made, not before: that takes seconds, and many runs do without.
"""

import contextlib
import math
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.tracking.metrics import Sink
from utils.system.console import complain

# A larger value of these is better; W&B gets the best one so far under its own key, as a plain number, because
# define_metric(summary="max") would turn the summary into a dict in which a sweep's optimiser finds no number.
_BEST_OF = (
    "evaluation/scores_mean",
    "evaluation/completions_mean",
    "evaluation/smoothed_score",
    "evaluation/smoothed_completion",
)

_MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")
_NOT_IN_A_PROJECT = "/\\#?%:"
_SECONDS_FOR_AN_ANSWER = 5.0  # of W&B's server; where none comes the run is offline
# Seconds: for a server that answers to begin a run, and for uploads at the end. The rest is left for ``wandb sync``.
_TIMEOUTS = {"init_timeout": 30.0, "finish_timeout": 120.0}


def check_wandb(config: TrainingConfig) -> None:
    """Refuses what W&B would not take, before a training begins that would then not be tracked.

    Raises:
        ConfigError: the sentence names the option or the environment variable.
    """
    if not config.wandb:
        return
    mode, project = os.environ.get("WANDB_MODE"), config.wandb_project
    if mode is not None and mode not in _MODES:
        raise ConfigError(
            f"the environment variable WANDB_MODE is {mode!r}, but must be one of {', '.join(_MODES)}, or not be set."
        )
    in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))  # it brings its own project
    if not in_sweep and (not 1 <= len(project) <= 128 or set(project) & set(_NOT_IN_A_PROJECT)):
        raise ConfigError(
            f"--wandb_project is {project!r}, but must have 1 to 128 characters, none of them in {_NOT_IN_A_PROJECT}"
        )


class WandbSink(Sink):
    """A Weights & Biases run, online where there is a key or ``WANDB_MODE`` says so, else offline. Never asks.

    A sweep's agent sets entity, project and run id through the environment, and its values win over ``config``.
    Where the server cannot be reached in time the run goes on offline; where even that fails the sink stays silent.

    Args:
        directory: where the folder ``wandb/`` is made, unless ``WANDB_DIR`` says where.
        run_id: the id of an earlier run to go on with; left out of account under a sweep, which brings its own.
    """

    def __init__(
        self,
        project: str,
        run_name: str | None,
        config: Mapping[str, Any],
        tags: Sequence[str],
        directory: str | Path,
        run_id: str | None = None,
    ) -> None:
        in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))
        arguments: dict[str, Any] = {
            "project": None if in_sweep else project,
            "name": run_name,
            "config": dict(config),
            "tags": list(tags),
            "dir": None if os.environ.get("WANDB_DIR") else str(directory),
        }
        if run_id is not None and not in_sweep:
            arguments.update(id=run_id, resume="allow")
        self._run = _start_run(arguments)
        self._best: dict[str, float] = {}
        if self._run is not None:
            # A step metric, not step=: rows whose step goes back would be lost without a word.
            self._run.define_metric("episode")
            self._run.define_metric("*", step_metric="episode")
            for name in _BEST_OF:
                earlier = self._run.summary.get(_best_key(name))
                if isinstance(earlier, int | float) and math.isfinite(earlier):
                    self._best[name] = float(earlier)

    @property
    def run_id(self) -> str | None:
        return None if self._run is None or self._run.disabled else str(self._run.id)

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Logs the finite metrics of an episode and keeps the best evaluation in the run's summary."""
        if self._run is None:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._run.log({"episode": episode, **finite})
        better = {}
        for name in _BEST_OF:
            if name in finite and finite[name] > self._best.get(name, -math.inf):
                self._best[name] = finite[name]
                better[_best_key(name)] = finite[name]
        if better:
            self._run.summary.update(better)

    def summary(self, values: Mapping[str, float]) -> None:
        """Sets finite values of the run's summary."""
        if self._run is not None:
            self._run.summary.update({name: value for name, value in values.items() if math.isfinite(value)})

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Uploads a film."""
        if self._run is not None:
            import wandb

            self._run.log({"episode": episode, name: wandb.Video(str(path), format="gif")})

    def close(self, exit_code: int = 0) -> None:
        """Finishes the run; an exit code other than 0 marks it as failed."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish(exit_code=exit_code)


def _best_key(name: str) -> str:
    return f"{name}_best"


def _start_run(arguments: dict[str, Any]) -> Any:
    """Starts a run online or offline, whichever works, or returns None. Never asks and never raises."""
    try:
        import wandb

        if arguments["dir"] is not None:
            Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
        mode = _choose_mode(wandb)
        # quiet: its closing table would push the summary of the training, with what to type next, off the screen
        settings = wandb.Settings(quiet=True, **_TIMEOUTS)
    except Exception as error:
        _say(f"W&B cannot be used ({type(error).__name__}: {error}); training goes on without it.")
        return None
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return wandb.init(mode=attempt, settings=settings, **arguments)
        except Exception as error:
            rest = "without it" if attempt == "offline" else "with W&B offline"
            _say(f"W&B did not start ({type(error).__name__}: {error}); training goes on {rest}.")
            with contextlib.suppress(Exception):
                wandb.teardown()
    return None


def _choose_mode(wandb: Any) -> Any:
    """ "offline" where an online run would ask for a key or wait for a server in vain; None leaves it to W&B.

    No mode is forced where there is a key, because a sweep needs its run online.
    """
    settings = wandb.setup().settings
    # Looked at before login(), which is False under offline and disabled as well.
    if (os.environ.get("WANDB_MODE") or settings.mode) in ("offline", "dryrun", "disabled"):
        return None
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except Exception as error:
        _say(f"the W&B key cannot be used ({type(error).__name__}: {error}); training goes on with W&B offline.")
        return "offline"
    if not has_key:
        return "offline"
    if not _answers(settings.base_url):
        _say(f"the W&B server {settings.base_url} does not answer; training goes on with W&B offline.")
        return "offline"
    return None


def _answers(url: str) -> bool:
    """Whether a server answers at all. init would try for its time-out and then half a minute more."""
    try:
        urllib.request.urlopen(url, timeout=_SECONDS_FOR_AN_ANSWER).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # W&B may know certificates that Python does not.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    except Exception:
        # An answer that is no HTTP, or an address that only W&B understands: let init judge.
        return True
    return True


def _say(text: str) -> None:
    complain(f"warning: {text}")
