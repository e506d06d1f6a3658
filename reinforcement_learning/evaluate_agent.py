"""Scores checkpoints, rules and policies of your own on levels that anyone can make again; see --help.

    python reinforcement_learning/evaluate_agent.py --policy shortest_path --policy checkpoints/RUN/best.pt -e 1

Episode i is played in a fresh ``RailEnv(random_seed=FIRST + i)`` after ``reset(True, True, random_seed=FIRST + i)``,
by flatland-rl itself. Trainings never see levels with seeds below 2**30.
"""

import argparse
import gc
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process
    gc.disable()  # what is imported is no garbage, and looking for some takes a fifth of the start

import torch

from reinforcement_learning.saving.run_folders import check_file_writable
from reinforcement_learning.scoring.heuristics import MissingPackageError
from reinforcement_learning.scoring.planning import seconds_to_plan
from reinforcement_learning.scoring.players import BEST_POLICY, CEILING, MAPPING, NAMES, policy_choice, with_planned
from reinforcement_learning.scoring.score_table import Played, Scored, table
from reinforcement_learning.scoring.scoring import Scorer, Task, WorkerEndedError
from reinforcement_learning.settings.arguments import SentenceParser, at_least
from reinforcement_learning.settings.named_code import add_code_options, named_on_command_line
from reinforcement_learning.settings.named_rewards import add_rewards_option, find_rewards
from utils.levels.env_configs import ENVIRONMENTS_IN_WORDS, SingleEnv, resolve_env_config, single_envs
from utils.levels.saved_levels import warn_about_targets
from utils.pictures.rendering import FILM_SUFFIXES, EpisodeRecorder, save_film
from utils.pictures.time_distance import Diagram, draw_time_distance
from utils.system.console import complain, prepare_console, say
from utils.system.files import atomic_write
from utils.system.interrupts import exit_code_of
from utils.system.seeds import MAX_USER_SEED
from utils.system.users_code import UsersCodeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores as the command line says; returns the exit code."""
    prepare_console()
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        _check(options)
        rewards = find_rewards(options.rewards)
        given = options.evaluation_env_config or ["0"]
        configs = single_envs(replace(resolve_env_config(text), rewards=rewards) for text in given)
        names = with_planned(options.policy) if options.plan_seconds > 0 else options.policy
        named = named_on_command_line(options)
        scorer = Scorer(names, options.policy_index, options.num_workers, options.plan_seconds, named)
        for name in ("json", "render", "diagram"):  # last, as it makes folders
            if path := getattr(options, name):
                check_file_writable(name, Path(path))
    except (MissingPackageError, ValueError) as error:
        complain(f"evaluate_agent.py: error: {error}")
        return 2
    except KeyboardInterrupt:  # while what it needs is compiled
        complain("\ninterrupted")
        return 130
    warn_about_targets(configs, lambda text: print(f"warning: {text}", file=sys.stderr))
    try:
        problems = _score(scorer, names, configs, options)
    except UsersCodeError as error:
        complain(f"evaluate_agent.py: error: {error}")
        return 2
    except WorkerEndedError as error:
        complain(f"evaluate_agent.py: error: {error}")
        return 1
    except KeyboardInterrupt:
        complain("\ninterrupted")
        return 130
    for problem in problems:
        complain(f"evaluate_agent.py: error: {problem}")
    return 1 if problems else 0


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="evaluate_agent.py", description="Scores checkpoints and rule-based policies on fixed levels."
    )
    parser.add_argument(
        "--policy",
        action="append",
        required=True,
        metavar="CHECKPOINT|NAME",
        help="repeatable; a checkpoint, a rule or policy of your own as package.module:callable, or one of "
        f"{', '.join(NAMES)}",
    )
    parser.add_argument(
        "-e",
        "--evaluation_env_config",
        action="append",
        metavar="TEXT",
        help=f"repeatable: {ENVIRONMENTS_IN_WORDS}; of a folder each level is scored apart (default: 0)",
    )
    parser.add_argument(
        "-n", "--n_evaluation_episodes", type=at_least(1), default=50, metavar="N", help="episodes (default: 50)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=1000, metavar="FIRST", help="seed of the first level (default: 1000)"
    )
    parser.add_argument(
        "--num_workers", type=at_least(1), default=1, metavar="N", help="processes that play levels (default: 1)"
    )
    parser.add_argument(
        "--policy_index",
        type=policy_choice,
        default=BEST_POLICY,
        metavar="I|best|mapping",
        help="which policy of checkpoints that hold several: its number, the one that was best in the newest "
        "evaluation, or all as they were mapped in training (default: best)",
    )
    add_rewards_option(parser, "what the environment rewards")
    add_code_options(parser)
    parser.add_argument(
        "--plan_seconds",
        type=seconds_to_plan,
        default=0.0,
        metavar="S",
        help="score each checkpoint a second time, with planning for at most S seconds a step (default: 0, not at all)",
    )
    parser.add_argument("--json", metavar="FILE", help="where to write all results")
    parser.add_argument(
        "--render",
        nargs="?",
        const="episode.gif",
        metavar="FILE",
        help="film of the first level, all policies side by side: .gif, .mp4, or .png for a still picture of the last "
        "step (default: episode.gif)",
    )
    parser.add_argument(
        "--diagram",
        metavar="FILE",
        help="time-distance diagrams (.png) of the first level, as dispatchers draw them: where each train is when, "
        "along the line that most trains share",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.plan_seconds > 0 and options.policy_index == MAPPING:
        raise ValueError("--plan_seconds plans for a single policy: --policy_index must be a number or best.")
    if options.render and Path(options.render).suffix.lower() not in FILM_SUFFIXES:
        raise ValueError(f"--render is {options.render!r}, but must end in one of {', '.join(FILM_SUFFIXES)}.")
    if options.diagram and Path(options.diagram).suffix.lower() != ".png":
        raise ValueError(f"--diagram is {options.diagram!r}, but must end in .png.")
    if options.diagram and options.diagram == options.render:
        raise ValueError(f"--render and --diagram are both {options.diagram!r}, but must be two files.")
    for name in ("render", "diagram"):
        if getattr(options, name) and CEILING in options.policy:
            raise ValueError(f"--{name} cannot show {CEILING}: it plays a level once for each train.")
    if options.seed > MAX_USER_SEED - options.n_evaluation_episodes:
        raise ValueError(f"--seed is {options.seed}, but must be from 0 to {MAX_USER_SEED} less the episodes.")


def _score(
    scorer: Scorer, names: Sequence[str], configs: Sequence[SingleEnv], options: argparse.Namespace
) -> list[str]:
    """Plays everything; as soon as an environment is complete, writes what there is and prints its table.

    Returns:
        A sentence for each result that is lost, because it could not be written.
    """
    n_episodes, first_seed = options.n_evaluation_episodes, options.seed
    tasks = [Task(config, first_seed + i) for config in configs for i in range(n_episodes)]
    played = _with_progress(scorer.play(tasks), len(tasks))
    all_rows: list[Scored] = []
    problems: dict[str, None] = {}  # in order, each once
    for config in configs:
        rows = [Scored(name, config.name, first_seed) for name in names]
        for _ in range(n_episodes):
            for row, episode in zip(rows, next(played), strict=True):
                row.played.append(episode)
        all_rows += rows
        unsaved = [_write_json(all_rows, options.json)]  # first: nobody may be there to read the table
        if not say(("\n" if len(all_rows) > len(rows) else "") + table(rows)) and not options.json:
            unsaved.append("the table could not be printed, and there is no --json.")
        if options.render or options.diagram:
            recorders = scorer.record(Task(config, first_seed))
            unsaved += _draw(recorders, config.name if len(configs) > 1 else "", options)
        problems |= dict.fromkeys(filter(None, unsaved))
    return list(problems)


def _write_json(rows: Sequence[Scored], path: str | None) -> str:
    """Writes all results so far, where they are to be written; returns why that failed, or nothing."""
    if not path:
        return ""
    try:
        with atomic_write(path) as file:
            file.write(json.dumps([row.as_dict() for row in rows], indent=1).encode())
    except OSError as error:
        return f"--json: {path} could not be written ({error.strerror})."
    return ""


def _draw(recorders: Sequence[EpisodeRecorder], stem: str, options: argparse.Namespace) -> list[str]:
    """Saves the pictures that are asked for; ``stem`` tells those of several environments apart.

    Returns:
        A sentence for each that could not be written.
    """
    problems = []
    for option, given in (("render", options.render), ("diagram", options.diagram)):
        if not given:
            continue
        path = Path(given)
        path = path.with_stem(f"{path.stem}_{stem}") if stem else path
        try:
            if option == "render":
                save_film(recorders, path)
            else:
                diagrams = [Diagram(r.title, r.planned, r.ways(), r.malfunctions()) for r in recorders]
                draw_time_distance(recorders[0].state, diagrams, path)
        except OSError as error:
            problems.append(f"--{option}: {path} could not be written ({error.strerror or error}).")
        else:
            say(f"{path} shows seed {options.seed}")
    return problems


def _with_progress(played: Iterator[list[Played]], n_tasks: int) -> Iterator[list[Played]]:
    """Says on a terminal how far it is; the line is gone before anything else is printed."""
    shown, started = sys.stderr.isatty(), time.perf_counter()
    for done, episodes in enumerate(played, start=1):
        if shown:
            left = (time.perf_counter() - started) / done * (n_tasks - done)
            shown = complain(f"\r\033[K{done}/{n_tasks} levels, {left:.0f} s left\r", end="")
        yield episodes
    if shown:
        complain("\r\033[K", end="")


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(exit_code_of(main))
