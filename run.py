"""The submission: plays all environments of flatland-rl's remote evaluator with a trained policy.

    redis-server --bind 127.0.0.1 --port 6379 --save "" &
    flatland-evaluator --tests ENVS --results-path results.csv &
    AICROWD_TESTS_FOLDER=ENVS python run.py

The checkpoint is the one that ships, or the one that FLATLAND_CHECKPOINT or --checkpoint names. It plans while it
plays (``reinforcement_learning/scoring/planning.py``); with --plan_seconds 0 or FLATLAND_PLAN_SECONDS=0 the network
plays alone.
A network or features of one's own that the checkpoint was trained with must be named: --network, --features, or
FLATLAND_NETWORK, FLATLAND_FEATURES.
With --policy a rule or policy of one's own plays instead (``reinforcement_learning/scoring/own_policies.py``).
Redis is looked for on port 6379 of the host in the environment variable redis_ip, 127.0.0.1 unless set.
"""

import argparse
import gc
import signal
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process
    gc.disable()  # what is imported is no garbage, and looking for some takes a fifth of the start

import torch

from reinforcement_learning.grading.remote_evaluation import EvaluatorError, RemoteEvaluation
from reinforcement_learning.grading.remote_play import play_all, table
from reinforcement_learning.scoring.heuristics import RULES, MissingPackageError
from reinforcement_learning.scoring.planning import PLAN_SECONDS, PlanningOptions, seconds_to_plan
from reinforcement_learning.scoring.players import (
    BEST_POLICY,
    MAPPING,
    Player,
    load_player,
    load_rule,
    planning_player,
    policy_choice,
)
from reinforcement_learning.settings.arguments import SentenceParser, at_least
from reinforcement_learning.settings.named_code import add_code_options, named_on_command_line
from reinforcement_learning.settings.named_rewards import add_rewards_option, find_rewards
from reinforcement_learning.submission import checkpoint_to_submit, load_warmed_up, planning_to_submit
from utils.system.console import complain, prepare_console, say
from utils.system.interrupts import exit_code_of
from utils.system.users_code import UsersCodeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays and submits; returns the exit code."""
    prepare_console()
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        # all of it before the evaluator is asked for anything: its clock runs from then on
        rewards = find_rewards(options.rewards)
        player, who = _load(options)
    except (MissingPackageError, ValueError) as error:
        complain(f"run.py: error: {error}")
        return 2
    except KeyboardInterrupt:  # while what it needs is compiled
        complain("run.py: interrupted; nothing was submitted.")
        return 130
    say(f"playing with {who}; waiting for the evaluator, {options.wait} s at most")
    try:
        evaluation = RemoteEvaluation(options.wait, rewards)
        episodes = play_all(evaluation, player)
        say(table(episodes))
        say(f"the evaluator says: {evaluation.submit()}")
    except EvaluatorError as error:
        complain(f"run.py: error: {error}")
        return 1
    except UsersCodeError as error:
        complain(f"run.py: error: {error} Nothing was submitted.")
        return 2
    except KeyboardInterrupt:
        complain("run.py: interrupted; nothing was submitted.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(prog="run.py", description="Plays all environments of flatland-rl's remote evaluator.")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--checkpoint", metavar="FILE", help="default: $FLATLAND_CHECKPOINT, else the one that ships")
    who.add_argument(
        "--policy",
        metavar="NAME",
        help="instead of a checkpoint: a rule or policy of your own as package.module:callable, or one of "
        f"{', '.join(RULES)}",
    )
    parser.add_argument(
        "--policy_index",
        type=policy_choice,
        default=BEST_POLICY,
        metavar="I|best|mapping",
        help="which policy of a checkpoint that holds several: its number, the best, or all as they were mapped in "
        "training (default: best)",
    )
    add_code_options(parser, variables=True)
    add_rewards_option(parser, "what plans minimize the loss of, and what the table counts; the evaluator has its own")
    parser.add_argument(
        "--plan_seconds",
        type=seconds_to_plan,
        metavar="S",
        help="plan for at most S seconds a step, and 60 times as long before the first; 0: the network plays alone "
        f"(default: $FLATLAND_PLAN_SECONDS, else {PLAN_SECONDS:g})",
    )
    parser.add_argument(
        "--wait", type=at_least(0), default=50, metavar="SECONDS", help="for Redis and the evaluator (default: 50)"
    )
    return parser


def _load(options: argparse.Namespace) -> tuple[Player, str]:
    """What plays, ready to play in time, and what to call it.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        MissingPackageError: the rule needs a package that is not installed.
        ValueError: a rule, policy or mapping cannot be used, or is to plan; the message is one sentence.
    """
    if options.policy is not None:
        if options.plan_seconds:
            raise ValueError("--plan_seconds plans with a checkpoint: leave it out with --policy.")
        return load_rule(options.policy), options.policy
    checkpoint, choice = options.checkpoint or checkpoint_to_submit(), options.policy_index
    named = named_on_command_line(options, variables=True)
    policy, observer = load_warmed_up(checkpoint, choice if isinstance(choice, int) else None, named)
    if choice == MAPPING:
        if options.plan_seconds:
            raise ValueError("planning is for a single policy: --policy_index must be a number or best.")
        return load_player(str(checkpoint), MAPPING, named=named), f"{checkpoint}, without planning"
    seconds = options.plan_seconds
    planning = planning_to_submit() if seconds is None else PlanningOptions.of_seconds(seconds)
    how = f", planning for at most {planning.seconds:g} s a step" if planning else ""
    return planning_player(policy, observer, planning), f"{checkpoint}{how}"


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(exit_code_of(main))
