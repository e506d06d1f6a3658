"""Trains a policy that all trains share; run it with --help for the options.

python reinforcement_learning/multi_agent_training.py -n 2500 -t 1 -e 1
"""

# ruff: noqa: E402  (something is done before the imports that take long)

import gc
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

from utils.compile_ahead import CompileAhead

compile_ahead = CompileAhead()
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process
    gc.disable()  # what is imported is no garbage, and looking for some takes a quarter of the start
    compile_ahead.start()  # before PyTorch is imported, which takes seconds

import torch

from reinforcement_learning.learning.replay_buffer import ReplayBufferError
from reinforcement_learning.multi_policy.mapping_log import MappingLog
from reinforcement_learning.multi_policy.modes import check_mapping
from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.playing.own_reward import check_own_reward
from reinforcement_learning.saving.checkpointing import (
    BEST,
    CheckpointError,
    latest_checkpoint,
    newest_first,
    read_checkpoint,
    stored_feature_set,
)
from reinforcement_learning.saving.run_folders import RunFolders, prepare_run_folders, warn_about_sizes
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import ConfigError, TrainingConfig, make_config, options_to_repeat
from reinforcement_learning.settings.devices import DeviceError, available_gpus, describe, place_policies
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.tracking.learning_curve import draw_learning_curve
from reinforcement_learning.tracking.metrics import (
    ConsoleSink,
    JsonLinesSink,
    MetricsWriter,
    Sink,
    TensorBoardSink,
    WandbSink,
)
from reinforcement_learning.training.reports import report_several_policies
from reinforcement_learning.training.trainer import Trainer
from utils.levels.env_configs import resolve_env_config
from utils.simulator.compiled_simulator import warn_if_flatland_is_unproven
from utils.system.interrupts import Interrupts

METRICS_FILE, CURVE_FILE = "metrics.jsonl", "learning_curve.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says; returns the exit code."""
    options = given_options(sys.argv[1:] if arguments is None else arguments)
    try:
        return _train(options)
    except (ConfigError, CheckpointError, ReplayBufferError, DeviceError) as error:
        print(f"multi_agent_training.py: error: {error}", file=sys.stderr)
        return 2
    except (ExperienceError, ExtensionError) as error:
        saved = " A checkpoint was saved." if error.saved else ""
        print(f"multi_agent_training.py: error: {error}{saved}", file=sys.stderr)
        return 2 if isinstance(error, ExtensionError) else 1
    except KeyboardInterrupt:  # of a training signals are handled by Interrupts
        print("multi_agent_training.py: interrupted before the training began.", file=sys.stderr)
        return 130


def _train(options: dict[str, Any]) -> int:
    checkpoint_path, checkpoint = _find_checkpoint(options)
    config = make_config(options, checkpoint["config"] if checkpoint else None)
    check_mapping(config)  # before any folder is made
    check_own_reward(config)
    with _where_it_runs(config) as n_gpus:
        devices = _choose_devices(config, n_gpus)
        torch.set_num_threads(config.num_threads)
        folders = prepare_run_folders(config, resumed=checkpoint is not None)
        warn_about_sizes(config, _warn)
        if config.simulator == "compiled":
            warn_if_flatland_is_unproven()
        with Interrupts() as interrupts:
            trainer = Trainer(config, folders, stop_requested=lambda: interrupts.received is not None, devices=devices)
            notes = _resume(trainer, config, checkpoint_path, checkpoint)
            sinks = _make_sinks(config, folders, trainer, resumed=checkpoint is not None)
            if config.num_policies > 1 and config.jsonl:
                trainer.mapping_log = MappingLog(folders.output, trainer.episode if checkpoint else None)
            with MetricsWriter(sinks) as metrics:
                trainer.metrics = metrics
                _announce(config, folders, trainer, describe(devices), notes)
                compile_ahead.finish(trainer.feature_set, config.safe_moves, metrics.message)
                _collect_garbage_from_now_on()
                finished = trainer.run()
                _close(config, folders, trainer, finished)
            return 0 if finished else interrupts.exit_code


def _where_it_runs(config: TrainingConfig) -> AbstractContextManager[int]:
    """This machine, or Ray; gives the number of GPUs there."""
    if not config.async_rl:
        return nullcontext(available_gpus())
    from reinforcement_learning.distributed.session import RaySession  # Ray need not be installed otherwise

    return RaySession(config)


def _collect_garbage_from_now_on() -> None:
    """What is there by now stays for good and need not be searched again and again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _find_checkpoint(options: dict[str, Any]) -> tuple[Path | None, dict[str, Any] | None]:
    """The checkpoint that ``--resume`` means, and its content."""
    if "resume" not in options:
        return None, None
    resume = options["resume"]
    if not resume:  # a variable of a script that is not set: beginning anew is not what was meant
        raise ConfigError("--resume is empty, but must be the path of a checkpoint (.pt), or latest.")
    folder = Path(options.get("checkpoint_dir", TrainingConfig.checkpoint_dir))
    path = latest_checkpoint(folder, _warn) if resume == "latest" else Path(resume)
    checkpoint = read_checkpoint(path)
    stored_feature_set(checkpoint, path)
    return path, checkpoint


def _choose_devices(config: TrainingConfig, n_gpus: int) -> list[str]:
    placement = place_policies(config.num_policies, use_gpu=config.use_gpu, devices=config.devices, n_gpus=n_gpus)
    if placement.note:
        _warn(placement.note)
    return placement.devices


def _resume(
    trainer: Trainer, config: TrainingConfig, path: Path | None, checkpoint: dict[str, Any] | None
) -> list[str]:
    """Brings a trainer to where the checkpoint was; returns what the user should know of it.

    Replay buffers come from the file that was asked for, or else from those that belong to the checkpoint.
    """
    notes = []
    if checkpoint is not None:
        trainer.load_state_dict(checkpoint)
        notes.append(f"Resuming {path} after episode {trainer.episode}.")
    learners = trainer.population.learners
    belonging = checkpoint["replay_buffers"] if checkpoint else []
    if config.restore_replay_buffer:  # every policy starts with it
        for learner in learners:
            learner.buffer.restore(config.restore_replay_buffer)
        notes.append(f"Restored {len(learners[0].buffer)} transitions from {config.restore_replay_buffer}.")
    elif belonging:
        for learner, buffer in zip(learners, belonging, strict=True):
            try:
                learner.buffer.restore(buffer)
                notes.append(f"Restored {len(learner.buffer)} transitions from {buffer}.")
            except ReplayBufferError as error:
                notes.append(f"warning: {error} The replay buffer fills anew.")
    elif checkpoint is not None:
        notes.append("The checkpoint has no saved replay buffer (see --save_replay_buffer): it fills anew.")
    return notes


def _make_sinks(config: TrainingConfig, folders: RunFolders, trainer: Trainer, *, resumed: bool) -> list[Sink]:
    resume_episode = trainer.episode if resumed else None
    sinks: list[Sink] = []
    if config.jsonl:
        sinks.append(JsonLinesSink(folders.output / METRICS_FILE, resume_episode))
    if config.tensorboard:
        sinks.append(TensorBoardSink(folders.output / "tensorboard", resume_episode, config.as_dict()))
    if config.wandb:
        wandb_sink = WandbSink(
            project=config.wandb_project,
            run_name=folders.name,
            config=config.as_dict(),
            tags=[resolve_env_config(config.training_env_config).name, config.feature_set],
            directory=folders.output,
            run_id=trainer.wandb_run_id,
        )
        trainer.wandb_run_id = wandb_sink.run_id
        sinks.append(wandb_sink)
    sinks.append(ConsoleSink(config.n_episodes, trainer.episode, progress_bar=config.progress_bar))
    return sinks


def _announce(config: TrainingConfig, folders: RunFolders, trainer: Trainer, devices: str, notes: list[str]) -> None:
    training = resolve_env_config(config.training_env_config).name
    evaluation = resolve_env_config(config.evaluation_env_config).name
    message = trainer.metrics.message
    policies = f"{config.num_policies} policies " if config.num_policies > 1 else ""
    message(
        f"Run {folders.name}: training on {training}, evaluating on {evaluation} every {config.checkpoint_interval} "
        f"episodes, seed {config.seed}, feature set {trainer.feature_set.name} "
        f"({trainer.feature_set.n_features} inputs), {policies}on {devices}."
    )
    for note in notes:
        message(note)
    if training != evaluation:
        message(f"Note: to evaluate on {training}, where the policy is trained, add -e {config.training_env_config}.")
    if trainer.episode >= config.n_episodes:
        message(
            f"All {config.n_episodes} episodes are done already: -n counts the whole training, so give a larger one "
            "to train on."
        )


def _close(config: TrainingConfig, folders: RunFolders, trainer: Trainer, finished: bool) -> None:
    """Draws the curve and says what was written and what to type next."""
    metrics = trainer.metrics
    metrics.summary(trainer.summary())
    ending = "Finished" if finished else "Interrupted"
    n_episodes = max(config.n_episodes, trainer.episode)  # resumed with a smaller number nothing is left to do
    lines = ["", f"{ending} after {trainer.episode} of {n_episodes} episodes."]
    best = folders.checkpoints / BEST
    if trainer.best_episode:
        whose = f" by policy {trainer.best_policy}" if config.num_policies > 1 else ""
        lines.append(
            f"Best evaluation: score {trainer.best_score:.3f} at episode {trainer.best_episode}{whose}: {best}"
        )
    lines.append(f"  checkpoints     {folders.checkpoints}")
    if config.jsonl:
        lines.append(f"  metrics         {folders.output / METRICS_FILE}")
        curve = folders.output / CURVE_FILE
        if config.learning_curve and trainer.episode and _draw(config, folders, curve, metrics):
            lines.append(f"  learning curve  {curve}")
    if config.tensorboard:
        lines.append("  TensorBoard     " + shlex.join(["tensorboard", "--logdir", config.output_dir]))
    lines += report_several_policies(trainer, folders.output, finished=finished, warn=_warn)
    script = Path(__file__).resolve()
    if finished and best.exists():
        evaluate = script.with_name("evaluate_agent.py")
        lines.append(
            "Next: " + shlex.join(["python", str(evaluate), "--policy", str(best), "-e", config.evaluation_env_config])
        )
    newest = newest_first(folders.checkpoints, "episode_*.pt")
    if not finished and newest:  # by its path: the latest of all may be that of a training that runs beside this one
        resume = ["python", str(script), "--resume", str(newest[0]), *options_to_repeat(config)]
        lines.append("To go on: " + shlex.join(resume))
    metrics.message("\n".join(lines))


def _draw(config: TrainingConfig, folders: RunFolders, curve: Path, metrics: MetricsWriter) -> bool:
    environment = resolve_env_config(config.evaluation_env_config).name
    try:
        draw_learning_curve(folders.output / METRICS_FILE, curve, f"{folders.name}, evaluated on {environment}")
    except (OSError, ValueError) as error:
        metrics.message(f"warning: the learning curve could not be drawn ({error}).")
        return False
    return True


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
