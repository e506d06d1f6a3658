"""Searches hyper-parameters on this machine, as a sweep file says and without an account; --help lists the options."""

import argparse
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process

from utils.system.console import complain, prepare_console, say

if sys.platform == "win32":  # which has no locks that trainings inherit, and no signals to end them by
    complain("hyperparameter_search.py: error: it needs Linux or macOS.")
    sys.exit(2)

import fcntl

import optuna
import pandas
from matplotlib import pyplot
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from reinforcement_learning.saving.run_folders import check_writable
from reinforcement_learning.search.sweep_file import Sweep, grid_values, read_sweep
from reinforcement_learning.search.trial_process import read_metric, start_trial, training_command, trial_name
from reinforcement_learning.settings.arguments import SentenceParser, at_least
from reinforcement_learning.settings.config import ConfigError
from utils.system.files import PROJECT_ROOT, atomic_write
from utils.system.interrupts import Interrupts, exit_code_of

_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)

_NUMBERED_TRIALS = 10  # in pictures; more numbers would lie on one another


def main(arguments: list[str] | None = None) -> int:
    """Searches as the command line says; returns the exit code."""
    prepare_console()
    parser = SentenceParser(prog="hyperparameter_search.py", description=__doc__)
    jobs = max(1, 3 * (os.cpu_count() or 1) // 4)  # beside each training a process makes levels
    add = parser.add_argument
    add("--sweep", type=Path, default=PROJECT_ROOT / "sweep.yaml", help="sweep file (default: the project's own)")
    add("--trials", type=at_least(1), help="of the whole search (default: run_cap of the file, else 20)")
    add("--jobs", type=at_least(1), default=jobs, help="trainings at a time (default: %(default)s)")
    add("--study", type=Path, default=PROJECT_ROOT / "runs" / "search", help="folder; a search in it goes on")
    add("--seed", type=at_least(0), default=0, help="of the choices, not of the trainings (default: 0)")
    options = parser.parse_args(arguments)
    try:
        sweep, folder = read_sweep(options.sweep), options.study.resolve()
        check_writable("study", folder)
        with (folder / "search.lock").open("a") as lock, Interrupts() as interrupts:
            study = _open_study(folder, sweep, lock.fileno())
            _Search(sweep, study, folder, lock.fileno(), options).run(interrupts)
            say(f"\n{_write_results(study, sweep, folder)}\nTable and pictures: {folder}")
            _draw_pictures(study, sweep.metric, folder)
            return interrupts.exit_code or int(all(trial.state == TrialState.FAIL for trial in study.trials))
    except (ConfigError, OSError, optuna.exceptions.StorageInternalError) as error:
        complain(f"hyperparameter_search.py: error: {error}")
        return 2 if isinstance(error, ConfigError) else 1


def _open_study(folder: Path, sweep: Sweep, lock: int) -> optuna.Study:
    """Begins a study, or goes on with it; trials that were running are the next to be asked for."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        study = optuna.create_study(study_name="search", storage=storage, direction=sweep.goal, load_if_exists=True)
    except BlockingIOError as error:
        raise ConfigError(f"--study: a search, or a training of one that has just ended, uses {folder}.") from error
    except Exception as error:  # whatever SQLite, SQLAlchemy and Optuna make of a file that is something else
        raise ConfigError(f"--study: study.db in {folder} cannot be used ({type(error).__name__}).") from error
    content = [sweep.content[key] for key in ("method", "metric", "parameters")]
    if study.user_attrs.get("sweep", content) != content:
        raise ConfigError(f"--study: {folder} holds a search with another method, metric or parameters.")
    study.set_user_attr("sweep", content)
    study.pruner = sweep.pruner()
    study_id = storage.get_study_id_from_name("search")
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        storage.set_trial_state_values(trial_id, TrialState.WAITING)
    return study


@dataclass
class _Search:
    """Trains one configuration after the other, several at a time."""

    sweep: Sweep
    study: optuna.Study
    folder: Path
    lock: int  # an open file that the trainings inherit
    options: argparse.Namespace
    running: dict[int, tuple[optuna.Trial, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def run(self, interrupts: Interrupts) -> None:
        """Searches until all trials are done or a signal comes; whatever it raises, the trainings end."""
        try:
            while interrupts.received is None:
                if len(self.running) < self.options.jobs and self._start_next():
                    continue
                if not self.running:
                    return
                time.sleep(1)
                for trial, process in list(self.running.values()):
                    self._look_after(trial, process)
            say("To go on, give the same command once more.")
        finally:
            for _, process in self.running.values():
                process.terminate()  # the training saves a checkpoint
            for _, process in self.running.values():
                process.wait()

    def _start_next(self) -> bool:
        """Starts a trial; False where there is none any more."""
        trials, searched, method = self.study.trials, self.sweep.searched, self.sweep.content["method"]
        if not any(trial.state == TrialState.WAITING for trial in trials):
            grid = itertools.product(*map(grid_values, searched.values())) if method == "grid" else itertools.repeat(())
            values = next(itertools.islice(grid, len(trials), None), None)
            if values is None or len(trials) >= (self.options.trials or self.sweep.content.get("run_cap", 20)):
                return False
            if method == "grid":
                self.study.enqueue_trial(dict(zip(searched, values, strict=True)))
        sampler = optuna.samplers.TPESampler if method == "bayes" else optuna.samplers.RandomSampler
        self.study.sampler = sampler(seed=self.options.seed + len(trials))  # what goes on must not draw the same again
        trial = self.study.ask(searched)
        same = [t for t in trials if t.state == TrialState.COMPLETE and t.params == trial.params]
        if same:  # trainings with one seed are the same
            self._end(trial, f"same as trial {same[0].number}", same[0].value)
        else:
            name, options = trial_name(trial.number), self.sweep.options(trial.params)
            self.running[trial.number] = trial, start_trial(self.folder, name, options, self.lock)
            say(" ".join([f"trial {trial.number} begins or goes on:", *(f"{k} {options[k]}" for k in searched)]))
        return True

    def _look_after(self, trial: optuna.Trial, process: subprocess.Popen[bytes]) -> None:
        code, folder, metric = process.poll(), self.folder / trial_name(trial.number), self.sweep.metric
        values, best_of = read_metric(folder, metric)[0], max if self.sweep.goal == "maximize" else min
        strict = (self.sweep.content.get("early_terminate") or {}).get("strict")
        for step in range(self.study.trials[trial.number].last_step or 0, len(values)):
            trial.report(values[step] if strict else best_of(values[: step + 1]), step + 1)
            say(f"trial {trial.number}, evaluation {step + 1}: {metric} {values[step]:.4f}")
            if code is None and trial.should_prune():
                process.terminate()
                process.wait()
                return self._end(trial, "stopped early", state=TrialState.PRUNED)
        if code == 0 and values:
            self._end(trial, "finished", values[-1])
        elif code is not None:
            said = (folder / "console.log").read_text(errors="replace").strip() if code else f"there is no {metric}"
            self._end(trial, f"failed with exit code {code}: " + said.rpartition("\n")[2], state=TrialState.FAIL)
        return None

    def _end(self, trial: optuna.Trial, note: str, value: float | None = None, state: TrialState | None = None) -> None:
        self.running.pop(trial.number, None)
        trial.set_user_attr("note", note)
        self.study.tell(trial, value, state)
        _write_results(self.study, self.sweep, self.folder)
        say(f"trial {trial.number} {note}")


def _write_results(study: optuna.Study, sweep: Sweep, folder: Path) -> str:
    """Writes ``results.csv`` and ``results.md``, the best trial first; returns what the latter says."""
    best_of, sign = (max, -1) if sweep.goal == "maximize" else (min, 1)
    read = {t.number: read_metric(folder / trial_name(t.number), sweep.metric) for t in study.trials}

    def rank(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
        """Of equal values the higher completion comes first, and of results that are equal in both the later one."""
        state, value = _ORDER.index(trial.state), sign * (trial.value or 0)
        if trial.state != TrialState.COMPLETE:
            return state, value, trial.number
        completion = read[trial.number][1].get("evaluation/smoothed_completion")
        known = -1.0 if completion is None else completion  # what is the same as another trial has no files
        return state, value, -known, -trial.number

    trials, rows = sorted(study.trials, key=rank), []
    for trial in trials:
        values, newest = read[trial.number]
        row = {"trial": trial.number} | {name: sweep.options(trial.params).get(name) for name in sweep.searched}
        row |= {sweep.metric: values[-1] if values else trial.value, "best": best_of(values, default=None)}
        row |= {"episodes": newest.get("episode"), "seconds": newest.get("timer/total")}
        rows.append(row | {"state": trial.user_attrs.get("note", "running")})
    table = pandas.DataFrame(rows).convert_dtypes()  # whole numbers stay whole beside missing ones
    said = table.to_string(index=False, float_format="{:.6g}".format, na_rep="")
    if trials and trials[0].value is not None:
        best = folder / "checkpoints" / trial_name(trials[0].number) / "best.pt"
        command = shlex.join(training_command(sweep.options(trials[0].params)))
        said += f"\n\nBest: trial {trials[0].number}, {best}\nTrain it again: {command}"
    for name, content in (("results.csv", table.to_csv(index=False)), ("results.md", f"```\n{said}\n```\n")):
        with atomic_write(folder / name) as file:
            file.write(content.encode())
    return said


def _draw_pictures(study: optuna.Study, metric: str, folder: Path) -> None:
    """Draws Optuna's plots of the trials that have finished, importances from ten on: with fewer they are noise."""
    pyplot.switch_backend("Agg")  # needs no display
    warnings.simplefilter("ignore")  # these plots are experimental, and an axis may have one value only
    n_finished = len(study.get_trials(states=(TrialState.COMPLETE,)))
    drawn = {"history": plots.plot_optimization_history, "parameters": plots.plot_slice} if n_finished else {}
    drawn |= {"importances": plots.plot_param_importances} if n_finished >= 10 else {}
    for name, plot in drawn.items():
        plot(study, target_name=metric)
        if name == "history":
            pyplot.gcf().set_size_inches(9, 5)  # Optuna's legend, beside the plot, leaves it half the width
            pyplot.gca().legend(loc="best")
        for axes in pyplot.gcf().axes:
            axes.tick_params(axis="x", which="both", labelrotation=45)  # long labels do not overlap
            _number_trials(axes, study)
        with atomic_write(folder / f"search_{name}.png") as file:
            pyplot.savefig(file, format="png", dpi=110, bbox_inches="tight")


def _number_trials(axes: Any, study: optuna.Study) -> None:
    """Writes their numbers beside the points of the best trials, by which ``results.md`` and the folders name them."""
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    best_first = sorted(finished, key=lambda t: t.value or 0.0, reverse=study.direction == StudyDirection.MAXIMIZE)
    numbers: dict[float, list[str]] = {}
    for trial in best_first[:_NUMBERED_TRIALS]:
        numbers.setdefault(float(trial.value or 0.0), []).append(str(trial.number))
    for points in axes.collections:
        for x, y in {tuple(point) for point in points.get_offsets().tolist()}:
            place = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 7}
            if y in numbers:
                axes.annotate(", ".join(numbers[y]), (x, y), **place)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
