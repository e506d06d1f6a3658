"""Chooses the trials of a search and remembers their results: an Optuna study in a file of SQLite."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from reinforcement_learning.search.parameters import Value
from reinforcement_learning.search.sweep_file import Sweep
from reinforcement_learning.settings.config import ConfigError

DATABASE = "study.db"
OPTUNA = "optuna==5.0.0"
_NAME = "search"
_LEAST_FOR_IMPORTANCE = 10  # trials; with fewer the figures are noise


class StudyError(ConfigError):
    """A study cannot be begun or gone on with; the message is one sentence."""


class State(Enum):
    """What has become of a trial."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped early"
    REPEATED = "repeats another"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """A trial as the study remembers it.

    Attributes:
        number: from 0 on.
        chosen: the values of the parameters that are searched.
        state: what has become of it.
        value: of the metric at its end; NaN where there is none.
        note: why it failed, or which trial it repeats.
    """

    number: int
    chosen: Mapping[str, Value]
    state: State
    value: float = math.nan
    note: str = ""


class Study:
    """Chooses trials and remembers what came of them. One process at a time may use a folder.

    Args:
        folder: where the file is or will be.
        sweep: what is searched.
        seed: the choices derive from it and from what earlier trials have found.

    Raises:
        StudyError: Optuna is missing, the file cannot be used, or belongs to another sweep.
    """

    def __init__(self, folder: Path, sweep: Sweep, seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise StudyError(f"the local search needs the package optuna: pip install {OPTUNA}.") from error
        self._optuna, self._sweep, self._seed = optuna, sweep, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = folder / DATABASE
        try:
            self._study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=_NAME,
                direction="maximize" if sweep.maximize else "minimize",
                load_if_exists=True,
            )
        except Exception as error:  # whatever SQLite, SQLAlchemy and Optuna make of a file that is something else
            raise StudyError(f"--study: {path} cannot be used ({type(error).__name__}).") from error
        wanted = json.loads(json.dumps(sweep.identity))
        found = self._study.user_attrs.setdefault("sweep", wanted)
        if found != wanted:
            different = ", ".join(key for key in wanted if found.get(key) != wanted[key])
            raise StudyError(
                f"--study: {folder} holds a search with another {different}, so scores could not be compared; "
                "give another folder."
            )
        self._study.set_user_attr("sweep", wanted)
        self._notes: dict[str, list[str]] = dict(self._study.user_attrs.get("notes", {}))
        self._grid = self._make_grid()

    def _make_grid(self) -> list[dict[str, Value]]:
        """All combinations in order; none for the other methods."""
        if self._sweep.method != "grid":
            return []
        names = [parameter.name for parameter in self._sweep.searched]
        return [dict(zip(names, values, strict=True)) for values in product(*(p.grid() for p in self._sweep.searched))]

    def trials(self) -> list[Trial]:
        """All trials in order of their numbers."""
        waiting = self._optuna.trial.TrialState.WAITING  # of a grid; a search that was killed may leave one
        return [self._trial(found) for found in self._study.get_trials(deepcopy=False) if found.state != waiting]

    def next(self) -> Trial | None:
        """Chooses the values of a new trial; None where a grid has been searched to its end."""
        number = len(self.trials())
        distributions = {p.name: p.distribution() for p in self._sweep.searched}
        if self._grid:
            if number >= len(self._grid):
                return None
            categorical = self._optuna.distributions.CategoricalDistribution
            distributions = {p.name: categorical(p.grid()) for p in self._sweep.searched}
            if number == len(self._study.get_trials(deepcopy=False)):
                self._study.enqueue_trial(self._grid[number])
        self._study.sampler = self._sampler(number)
        asked = self._study.ask(distributions)
        return Trial(asked.number, self._chosen(asked.params), State.RUNNING)

    def repeated(self, trial: Trial) -> Trial | None:
        """An earlier trial with the same values that has a result: trainings with one seed are the same."""
        for earlier in self.trials():
            if earlier.chosen == trial.chosen and earlier.state in (State.FINISHED, State.STOPPED):
                return earlier
        return None

    def finish(self, trial: Trial, state: State, value: float = math.nan, note: str = "") -> None:
        """Remembers what has become of a running trial."""
        # first the note: killed between the two, the trial goes on and gets another
        self._notes[str(trial.number)] = [state.value, note]
        self._study.set_user_attr("notes", self._notes)
        if state is State.FAILED:
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial.number, value)

    def importances(self) -> dict[str, float]:
        """How much of the difference between good and other trials each parameter explains; they add up to 1.

        By PED-ANOVA (Watanabe et al. 2023); empty where there are too few trials to say.
        """
        values = [trial.value for trial in self.trials() if not math.isnan(trial.value)]
        if len(values) < _LEAST_FOR_IMPORTANCE or len(set(values)) == 1 or self._grid:
            return {}
        try:
            found = self._optuna.importance.get_param_importances(self._study)
        except (ValueError, RuntimeError):
            return {}
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def _sampler(self, number: int) -> Any:
        """A new one for each trial: the choices of a search that was interrupted are then the same."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._sweep.method == "bayes":
            return self._optuna.samplers.TPESampler(seed=seed)
        return self._optuna.samplers.RandomSampler(seed=seed)

    def _trial(self, found: Any) -> Trial:
        states = self._optuna.trial.TrialState
        if found.state == states.COMPLETE:
            state, note = self._notes.get(str(found.number), [State.FINISHED.value, ""])
            return Trial(found.number, self._chosen(found.params), State(state), found.value, note)
        if found.state == states.FAIL:
            note = self._notes.get(str(found.number), ["", ""])[1]
            return Trial(found.number, self._chosen(found.params), State.FAILED, note=note)
        return Trial(found.number, self._chosen(found.params), State.RUNNING)

    def _chosen(self, drawn: Mapping[str, Any]) -> dict[str, Value]:
        """What trainings are given; without the names that a search killed in between had not come to."""
        return {p.name: p.value(drawn[p.name]) for p in self._sweep.searched if p.name in drawn}
