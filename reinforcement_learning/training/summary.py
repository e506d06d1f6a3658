"""What people are told when a training begins and when it ends."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from reinforcement_learning.multi_policy.cross_play import as_json, as_text, cross_play
from reinforcement_learning.multi_policy.lineage import draw_lineage
from reinforcement_learning.saving.checkpointing import BEST, newest_first
from reinforcement_learning.settings.named_code import options_to_play
from reinforcement_learning.settings.named_rewards import DEFAULT_REWARDS
from reinforcement_learning.settings.run_config import options_to_repeat
from reinforcement_learning.tracking.json_lines_sink import METRICS_FILE
from reinforcement_learning.tracking.learning_curve import draw_learning_curve
from reinforcement_learning.training.trainer import Trainer
from utils.levels.mixtures import environments_of, split_environments
from utils.system.console import as_typed
from utils.system.files import PROJECT_ROOT, atomic_write

CURVE_FILE, CROSS_PLAY_FILE, LINEAGE_FILE = "learning_curve.png", "cross_play.json", "lineage.png"
_SCRIPTS = PROJECT_ROOT / "reinforcement_learning"


def announce(trainer: Trainer, devices: str, notes: Sequence[str]) -> None:
    """Says what is about to be trained.

    Args:
        notes: more sentences that the user should read.
    """
    config, message = trainer.config, trainer.metrics.message
    names = [environment.name for environment in environments_of(config.training_env)]
    training = (", then " if config.curriculum else ", ").join(names)
    evaluation = config.evaluation_env.name
    rewards = f"rewards {config.rewards}, " if config.rewards != DEFAULT_REWARDS else ""
    policies = f"{config.num_policies} policies " if config.num_policies > 1 else ""
    message(
        f"Run {trainer.folders.name}: training on {training}, evaluating on {evaluation} every "
        f"{config.checkpoint_interval} episodes, {rewards}seed {config.seed}, feature set {trainer.feature_set.name} "
        f"({trainer.feature_set.n_features} inputs), {policies}on {devices}."
    )
    for note in notes:
        message(note)
    if evaluation not in names:
        where = as_typed([split_environments(config.training_env_config)[-1]])
        message(f"Note: to evaluate on {names[-1]}, where the policy is trained, add -e {where}.")
    if trainer.episode >= config.n_episodes:
        message(
            f"All {config.n_episodes} episodes are done already: -n counts the whole training, so give a larger one "
            "to train on."
        )


def sum_up(trainer: Trainer, finished: bool) -> None:
    """Draws the pictures of a training that has ended and says what was written and what to type next."""
    config, state, metrics = trainer.config, trainer.state, trainer.metrics
    metrics.summary(trainer.summary())
    ending = "Finished" if finished else "Interrupted"
    n_episodes = max(config.n_episodes, state.episode)  # resumed with a smaller number nothing is left to do
    lines = ["", f"{ending} after {state.episode} of {n_episodes} episodes."]
    if state.best.episode:
        whose = f" by policy {state.best.policy}" if config.num_policies > 1 else ""
        lines.append(
            f"Best evaluation: score {state.best.score:.3f} at episode {state.best.episode}{whose}: "
            f"{trainer.folders.checkpoints / BEST}"
        )
    lines += _what_was_written(trainer)
    # whoever interrupts does not want to wait
    lines += report_several_policies(trainer, with_cross_play=finished and config.cross_play)
    metrics.message("\n".join(lines + _what_to_type_next(trainer, finished)))


def report_several_policies(trainer: Trainer, *, with_cross_play: bool) -> list[str]:
    """Writes the cross-play table and the picture of take-overs, where there are some; returns lines for people."""
    population, folders = trainer.population, trainer.folders
    lines = []
    path = folders.output / CROSS_PLAY_FILE
    try:
        if with_cross_play and len(population) > 1:
            policies, mapping = population.evaluation_policies(), population.mapping.policy_of_train
            levels, observer = trainer.levels_to_evaluate, trainer.observer
            if table := cross_play(policies, mapping, levels, observer, trainer.stop_requested):
                lines.append(as_text(table))
                with atomic_write(path) as file:
                    file.write((json.dumps(as_json(table), indent=1) + "\n").encode())
                lines.append(f"  cross-play      {path}")
    except OSError as error:
        trainer.could_not_save(path, error.strerror)
    path = folders.output / LINEAGE_FILE
    try:
        if population.exchanges:
            first = [dataclasses.asdict(values) for values in population.first_hyperparameters]
            draw_lineage(population.exchanges, first, trainer.episode, path, folders.name)
            lines.append(f"  lineage         {path}")
    except OSError as error:
        trainer.could_not_save(path, error.strerror)
    return lines


def sum_up_losses(trainer: Trainer) -> str:
    """A sentence about what could not be saved, and what there is to go on from; empty where all was saved."""
    if not (unsaved := trainer.unsaved):
        return ""
    newest = trainer.checkpoints.newest
    there = (
        f"the newest checkpoint is {newest}" if newest else f"there is no checkpoint in {trainer.folders.checkpoints}"
    )
    return f"not everything could be saved ({', '.join(unsaved)}): {there}."


def _what_was_written(trainer: Trainer) -> list[str]:
    config, folders = trainer.config, trainer.folders
    lines = [f"  checkpoints     {folders.checkpoints}"] if trainer.checkpoints.newest else []
    if config.jsonl:
        lines.append(f"  metrics         {folders.output / METRICS_FILE}")
        curve = folders.output / CURVE_FILE
        if config.learning_curve and trainer.episode and _draw(trainer, curve):
            lines.append(f"  learning curve  {curve}")
    if config.tensorboard:
        lines.append("  TensorBoard     " + as_typed(["tensorboard", "--logdir", config.output_dir]))
    return lines


def _draw(trainer: Trainer, curve: Path) -> bool:
    title = f"{trainer.folders.name}, evaluated on {trainer.config.evaluation_env.name}"
    try:
        draw_learning_curve(trainer.folders.output / METRICS_FILE, curve, title)
    except OSError as error:
        trainer.could_not_save(curve, error.strerror)
    except ValueError as error:
        trainer.metrics.message(f"warning: the learning curve could not be drawn ({error}).")
    else:
        return True
    return False


def _what_to_type_next(trainer: Trainer, finished: bool) -> list[str]:
    folder = trainer.folders.checkpoints
    if finished:
        if not (folder / BEST).exists():
            return []
        script, environment = _SCRIPTS / "evaluate_agent.py", trainer.config.evaluation_env_config
        play = ["python", str(script), "--policy", str(folder / BEST), "-e", environment]
        rewards = [] if trainer.config.rewards == DEFAULT_REWARDS else ["--rewards", trainer.config.rewards]
        return ["Next: " + as_typed([*play, *rewards, *options_to_play(trainer.config)])]
    # by its path: the latest of all may be that of a training that runs beside this one
    newest = newest_first(folder, "episode_*.pt")[:1]
    script = _SCRIPTS / "multi_agent_training.py"
    repeated = options_to_repeat(trainer.config)
    return ["To go on: " + as_typed(["python", str(script), "--resume", str(path), *repeated]) for path in newest]
