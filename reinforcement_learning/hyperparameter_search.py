"""Searches hyper-parameters on this machine, as a sweep file says and without an account; --help lists the options.

python reinforcement_learning/hyperparameter_search.py --sweep sweep.yaml --trials 20 --jobs 2 --study runs/search
"""

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

from reinforcement_learning.saving.run_folders import check_writable
from reinforcement_learning.search.local_search import LocalSearch
from reinforcement_learning.search.picture import draw_search
from reinforcement_learning.search.progress import Progress
from reinforcement_learning.search.results import (
    CSV_FILE,
    MARKDOWN_FILE,
    as_text,
    best_checkpoint,
    best_of,
    command_line,
    read_results,
    write_tables,
)
from reinforcement_learning.search.study import State, Study
from reinforcement_learning.search.sweep_file import Sweep, read_sweep
from reinforcement_learning.settings.arguments import SentenceParser, whole_number
from reinforcement_learning.settings.config import ConfigError
from utils.system.files import PROJECT_ROOT
from utils.system.interrupts import Interrupts

PICTURE_FILE = "search.png"
_LOCK_FILE = "search.lock"
_DEFAULT_TRIALS = 20
_PATIENCE = 20  # seconds for the trainings of a search that was killed to end


def main(arguments: Sequence[str] | None = None) -> int:
    """Searches as the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _search(options)
    except ConfigError as error:
        print(f"hyperparameter_search.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the trainings have ended by now, each with a checkpoint
        print(
            f"hyperparameter_search.py: error: {error}. The search goes on when it is started again.", file=sys.stderr
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(
        prog="hyperparameter_search.py",
        description="Trains the configurations of a sweep file on this machine and says which is best. Started again "
        "with the same --study it goes on.",
    )
    parser.add_argument(
        "--sweep", type=Path, default=PROJECT_ROOT / "sweep.yaml", metavar="FILE", help="default: the project's own"
    )
    parser.add_argument(
        "--trials",
        type=whole_number,
        metavar="N",
        help="of the whole search, those before a resume included (default: run_cap of the file, else 20)",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number,
        default=_default_jobs(),
        metavar="N",
        help="trainings at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--study", type=Path, default=PROJECT_ROOT / "runs" / "search", metavar="FOLDER", help="default: runs/search"
    )
    parser.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="of the choices, not of the trainings (default: 0)"
    )
    return parser


def _default_jobs() -> int:
    """Three for four cores: beside each training a process makes levels."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, 3 * cores // 4)


def _search(options: argparse.Namespace) -> int:
    sweep = read_sweep(options.sweep)
    if options.trials is None:
        options.trials = sweep.run_cap or _DEFAULT_TRIALS
    for name, least in (("trials", 1), ("jobs", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ConfigError(f"--{name} is {getattr(options, name)}, but must be a whole number of at least {least}.")
    folder = options.study.resolve()
    check_writable("study", folder)
    with _locked(folder) as lock, Interrupts() as interrupts:
        study = Study(folder, sweep, options.seed)
        with contextlib.closing(_announce(study, sweep, options)) as progress:
            search = LocalSearch(
                study,
                sweep,
                folder,
                lock,
                n_trials=options.trials,
                n_jobs=options.jobs,
                progress=progress,
                stop_requested=lambda: interrupts.received is not None,
                trial_ended=lambda: write_tables(read_results(study, sweep, folder), sweep, folder),
            )
            finished = search.run()
        found = _report(study, sweep, folder)
        if not finished:
            print(f"To go on: {_command(options)}")
            return interrupts.exit_code
        if search.gave_up:
            print("hyperparameter_search.py: error: all trials have failed; the table says why.", file=sys.stderr)
        return 0 if found else 1


def _announce(study: Study, sweep: Sweep, options: argparse.Namespace) -> Progress:
    n_done = sum(trial.state is not State.RUNNING for trial in study.trials())
    n_episodes = sweep.fixed.get("n_episodes")
    progress = Progress(options.trials, n_done, n_episodes if isinstance(n_episodes, int) else None)
    goal = "largest" if sweep.maximize else "smallest"
    progress.message(
        f"Searching {', '.join(p.name for p in sweep.searched)} for the {goal} {sweep.metric}: {options.trials} "
        f"trials, {n_done} of them done, {options.jobs} at a time, in {options.study.resolve()}."
    )
    return progress


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Keeps other searches, and trainings of a killed one that are still ending, out of a folder.

    Raises:
        ConfigError: it is in use, or this system has no such locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise ConfigError("the local search needs the file locks of Linux or macOS.") from error
    with (folder / _LOCK_FILE).open("a") as file:
        for attempt in range(_PATIENCE + 1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == _PATIENCE:
                    raise ConfigError(f"--study: another search runs in {folder}.") from None
                time.sleep(1)
        yield file.fileno()


def _report(study: Study, sweep: Sweep, folder: Path) -> bool:
    """Writes and prints what has been found; False where there is nothing."""
    results = read_results(study, sweep, folder)
    if not results:
        return False
    write_tables(results, sweep, folder)
    print(f"\n{as_text(results, sweep)}\n\n  table    {folder / MARKDOWN_FILE}, {folder / CSV_FILE}")
    best = best_of(results)
    if best is None:
        return False
    picture = folder / PICTURE_FILE
    draw_search(results, sweep, study.importances(), picture)
    print(f"  picture  {picture}\n  curves   tensorboard --logdir {shlex.quote(str(folder))}")
    print(
        f"\nBest: trial {best.trial.number} with {sweep.metric} {best.trial.value:.4f}, {best_checkpoint(best, folder)}"
    )
    print(f"Train it again: {command_line(best, sweep)}", flush=True)
    return True


def _command(options: argparse.Namespace) -> str:
    """What was typed, from any folder."""
    given = {name: getattr(options, name) for name in ("sweep", "trials", "jobs", "study", "seed")}
    given |= {name: given[name].resolve() for name in ("sweep", "study")}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return shlex.join(["python", str(Path(__file__).resolve()), *words])


if __name__ == "__main__":
    sys.exit(main())
