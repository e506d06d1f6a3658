"""The search itself: starts trials as others end, watches their metric, stops what falls behind. Start at ``run``."""

import time
from collections.abc import Callable
from pathlib import Path

from reinforcement_learning.search.progress import Progress, describe
from reinforcement_learning.search.study import State, Study, Trial
from reinforcement_learning.search.sweep_file import Sweep
from reinforcement_learning.search.trial_process import METRICS_FILE, MetricFile, TrialProcess, trial_name
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import ConfigError, make_config

_SECONDS_BETWEEN_LOOKS = 0.5
_FAILURES_IN_A_ROW = 3  # after which it goes on no more, unless a trial has ended well


class LocalSearch:
    """Trains one configuration after the other, several at a time.

    Args:
        study: chooses and remembers.
        sweep: what is searched.
        folder: of the search.
        lock: open file that the trainings inherit.
        n_trials: of the whole search, those before a resume included.
        n_jobs: trainings at a time.
        progress: what is told.
        stop_requested: asked now and then; True ends the trainings, each with a checkpoint.
        trial_ended: called after each trial.
    """

    def __init__(
        self,
        study: Study,
        sweep: Sweep,
        folder: Path,
        lock: int,
        *,
        n_trials: int,
        n_jobs: int,
        progress: Progress,
        stop_requested: Callable[[], bool] = lambda: False,
        trial_ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._study, self._sweep, self._folder, self._lock = study, sweep, folder, lock
        self._n_trials, self._n_jobs = n_trials, n_jobs
        self._progress, self._stop_requested, self._trial_ended = progress, stop_requested, trial_ended
        self._interrupted = [trial for trial in study.trials() if trial.state is State.RUNNING]
        self._running: dict[int, tuple[Trial, TrialProcess]] = {}
        self._histories: dict[int, list[float]] = {}  # of trials that have ended; more is better

    def run(self) -> bool:
        """Searches until all trials are done (True) or a stop is requested (False).

        Whatever it raises, the trainings end; those that were running go on when the search does.
        """
        try:
            while not self._stop_requested():
                self._fill()
                if not self._running:
                    return True
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for trial, process in list(self._running.values()):
                    self._look_after(trial, process)
                self._progress.running([process for _, process in self._running.values()])
            return False
        finally:
            self._end_all()

    @property
    def gave_up(self) -> bool:
        """Whether so many trials have failed that the rest would, too."""
        ended = [trial for trial in self._study.trials() if trial.state is not State.RUNNING]
        return len(ended) >= _FAILURES_IN_A_ROW and all(trial.state is State.FAILED for trial in ended)

    # --- starting ------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Starts trials until there are as many as there may be."""
        while len(self._running) < self._n_jobs and not self._stop_requested():
            trial = self._interrupted.pop(0) if self._interrupted else self._next()
            if trial is None:
                return
            self._start(trial)

    def _next(self) -> Trial | None:
        if self.gave_up or len(self._study.trials()) >= self._n_trials:
            return None
        return self._study.next()

    def _start(self, trial: Trial) -> None:
        if len(trial.chosen) < len(self._sweep.searched):
            self._finish(trial, State.FAILED, note="the search was killed before it had chosen all values")
            return
        repeated = self._study.repeated(trial)
        if repeated is not None:
            self._finish(trial, State.REPEATED, repeated.value, f"trial {repeated.number}")
            return
        options = self._sweep.arguments(trial.chosen)
        try:
            make_config(given_options(options))
        except ConfigError as error:
            self._finish(trial, State.FAILED, note=str(error))
            return
        process = TrialProcess(self._folder, trial.number, options, self._sweep.metric, self._lock)
        self._running[trial.number] = trial, process
        begins = "goes on from its checkpoint" if process.goes_on else "begins"
        self._progress.message(f"trial {trial.number} {begins}: {describe(trial.chosen)}")

    # --- watching ------------------------------------------------------------------------------------------------

    def _look_after(self, trial: Trial, process: TrialProcess) -> None:
        code = process.poll()
        if code is None:
            if not process.stopped_early and self._has_fallen_behind(process):
                process.stopped_early = True
                process.stop()
            return
        del self._running[trial.number]
        values = process.metrics.values
        if code != 0 and not process.stopped_early:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._finish(trial, State.FAILED, note=f"{how}: {process.last_words()}")
        elif not values:
            self._finish(trial, State.FAILED, note=f"its metrics have no {self._sweep.metric}")
        else:
            self._finish(trial, State.STOPPED if code else State.FINISHED, values[-1])

    def _has_fallen_behind(self, process: TrialProcess) -> bool:
        if self._sweep.early_stopping is None:
            return False
        running = [p.metrics.values for _, p in self._running.values() if p is not process]
        others = [*map(self._signed, running), *self._ended_histories()]
        return self._sweep.early_stopping.should_stop(self._signed(process.metrics.values), others)

    def _ended_histories(self) -> list[list[float]]:
        """The metric of all trials that have ended, read once."""
        for trial in self._study.trials():
            if trial.state is not State.RUNNING and trial.number not in self._histories:
                metrics = MetricFile(self._folder / trial_name(trial.number) / METRICS_FILE, self._sweep.metric)
                metrics.read()
                self._histories[trial.number] = self._signed(metrics.values)
        return list(self._histories.values())

    def _signed(self, values: list[float]) -> list[float]:
        return values if self._sweep.maximize else [-value for value in values]

    # --- ending --------------------------------------------------------------------------------------------------

    def _finish(self, trial: Trial, state: State, value: float = float("nan"), note: str = "") -> None:
        self._study.finish(trial, state, value, note)
        told = note if state is State.FAILED else f"{self._sweep.metric} {value:.4f}"
        of = f" ({note})" if state is State.REPEATED else ""
        self._progress.message(f"trial {trial.number} {state.value}{of}: {told}")
        self._progress.done()
        self._trial_ended()

    def _end_all(self) -> None:
        """Waits for the checkpoints of trainings that are still running."""
        for _, process in self._running.values():
            process.stop()
        while any(process.poll() is None for _, process in self._running.values()):
            time.sleep(0.1)
