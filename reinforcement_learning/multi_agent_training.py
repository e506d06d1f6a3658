"""Trains a policy that drives all trains, or several that share them; --help lists the options.

python reinforcement_learning/multi_agent_training.py -n 2500 -t 1 -e 1
"""

# ruff: noqa: E402  (something is done before the imports that take long)

import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process

from utils.compile_ahead import CompileAhead
from utils.system.console import complain, prepare_console
from utils.system.required_flatland import why_untrainable

compile_ahead = CompileAhead()
if __name__ == "__main__":
    if why := why_untrainable():  # with another flatland-rl the imports below may fail
        complain(f"multi_agent_training.py: error: {why}")
        sys.exit(2)
    gc.disable()  # what is imported is no garbage, and looking for some takes a quarter of the start
    compile_ahead.start()  # before PyTorch is imported, which takes seconds

import torch

from reinforcement_learning.learning.networks import check_networks
from reinforcement_learning.learning.replay_buffer import ReplayBufferError
from reinforcement_learning.multi_policy.modes import check_mapping
from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.playing.own_reward import check_own_reward
from reinforcement_learning.saving.checkpointing import (
    CheckpointError,
    check_resumable,
    find_checkpoint,
    stored_feature_set,
)
from reinforcement_learning.saving.run_folders import RunFolders, own_run_folders, warn_about_sizes
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import ConfigError, TrainingConfig, make_config
from reinforcement_learning.settings.devices import DeviceError, available_gpus, describe, names_gpus, place_policies
from reinforcement_learning.settings.features import check_features, feature_set_of
from reinforcement_learning.tracking.console_sink import ConsoleSink
from reinforcement_learning.tracking.json_lines_sink import METRICS_FILE, JsonLinesSink
from reinforcement_learning.tracking.metrics import MetricsWriter, Sink
from reinforcement_learning.tracking.tensorboard_sink import TensorBoardSink
from reinforcement_learning.tracking.wandb_sink import WandbSink, check_wandb
from reinforcement_learning.training.summary import announce, sum_up, sum_up_losses
from reinforcement_learning.training.trainer import Trainer
from utils.levels.env_configs import single_envs
from utils.levels.mixtures import environments_of
from utils.levels.saved_levels import warn_about_targets
from utils.simulator.compiled_simulator import warn_if_flatland_is_unproven
from utils.system.device_errors import describe_device_error, is_device_error
from utils.system.interrupts import Interrupts, exit_code_of
from utils.system.users_code import UsersCodeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says; returns the exit code."""
    prepare_console()
    options = given_options(sys.argv[1:] if arguments is None else arguments)
    try:
        return _train(options)
    except (ConfigError, CheckpointError, ReplayBufferError, DeviceError) as error:
        complain(f"multi_agent_training.py: error: {error}")
        return 2
    except (ExperienceError, UsersCodeError) as error:
        saved = " A checkpoint was saved." if error.saved else ""
        complain(f"multi_agent_training.py: error: {error}{saved}")
        return 2 if isinstance(error, UsersCodeError) else 1
    except RuntimeError as error:
        if not is_device_error(error):  # after the training, when it is summed up: all is saved
            raise
        complain(f"multi_agent_training.py: error: a GPU has failed ({describe_device_error(error)}).")
        return 1
    except KeyboardInterrupt:  # from the training's first step on, Interrupts only notes signals
        complain("multi_agent_training.py: interrupted before the training began.")
        return 130


def _train(options: dict[str, Any]) -> int:
    checkpoint_path, checkpoint = find_checkpoint(options, _warn)
    config = make_config(options, checkpoint["config"] if checkpoint else None)
    if config.plans:
        compile_ahead.start_planner()
    check_mapping(config)  # before any folder is made
    check_own_reward(config)
    check_wandb(config)
    _check_networks_and_features(config, checkpoint_path, checkpoint)
    with _where_it_runs(config) as n_gpus, own_run_folders(config, resumed=checkpoint is not None) as folders:
        devices = _choose_devices(config, n_gpus)
        torch.set_num_threads(config.num_threads)
        warn_about_sizes(config, _warn)
        environments = [*environments_of(config.training_env), config.evaluation_env]
        warn_about_targets(single_envs(environments), _warn)
        if config.simulator == "compiled":
            warn_if_flatland_is_unproven()
        with Interrupts(waits=False) as interrupts, MetricsWriter() as metrics:
            trainer = Trainer(
                config,
                folders,
                metrics=metrics,
                logs_mapping=config.num_policies > 1 and config.jsonl,
                stop_requested=lambda: interrupts.received is not None,
                devices=devices,
            )
            with closing(trainer):
                notes = trainer.resume(checkpoint_path, checkpoint)
                metrics.add(_make_sinks(config, folders, checkpoint))  # when nothing can be refused any more
                announce(trainer, describe(devices) + _elsewhere(config, devices), notes)
                compile_ahead.finish(trainer.feature_set, safe_moves=config.safe_moves, say=metrics.message)
                _collect_garbage_from_now_on()
                interrupts.wait_from_now_on()
                finished = trainer.run()
            sum_up(trainer, finished)
        if losses := sum_up_losses(trainer):  # what has to be closed first may add to them
            complain(f"multi_agent_training.py: error: {losses}")
            return 1
        return 0 if finished else interrupts.exit_code


def _where_it_runs(config: TrainingConfig) -> AbstractContextManager[int]:
    """This machine, or Ray; gives the number of GPUs there."""
    if not config.async_rl:
        wanted = names_gpus(use_gpu=config.use_gpu, devices=config.devices)
        return nullcontext(available_gpus() if wanted else 0)  # to look for them takes time and memory
    from reinforcement_learning.distributed.session import RaySession  # Ray need not be installed otherwise

    return RaySession(config)


def _collect_garbage_from_now_on() -> None:
    """Turns garbage collection on; what exists by now stays to the end and is left out of it."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _check_networks_and_features(config: TrainingConfig, path: Path | None, checkpoint: dict[str, Any] | None) -> None:
    """Whether they work, and are those of the checkpoint."""
    feature_set = feature_set_of(config)
    if path is not None and checkpoint is not None:
        stored_feature_set(checkpoint, path, config.features, config.network)
    check_features(config, feature_set)
    check_networks(config, feature_set)
    if path is not None and checkpoint is not None:
        check_resumable(checkpoint, path, config, feature_set)


def _choose_devices(config: TrainingConfig, n_gpus: int) -> list[str]:
    placement = place_policies(config.num_policies, use_gpu=config.use_gpu, devices=config.devices, n_gpus=n_gpus)
    if placement.note:
        _warn(placement.note)
    if config.async_rl and config.ray_address and "cuda" in config.devices:
        _warn("on a cluster Ray chooses the GPUs: the numbers of --devices only say which policies share one.")
    return placement.devices


def _elsewhere(config: TrainingConfig, devices: Sequence[str]) -> str:
    """What runs in other processes or on Ray, in words that follow others; nothing where all learns in this process."""
    if not config.async_rl:
        n_processes = len(set(devices))
        return f", in {n_processes} learner processes" if n_processes > 1 else ""
    from reinforcement_learning.distributed.session import n_rollout_actors

    where = f"the cluster of Ray at {config.ray_address}" if config.ray_address else "a Ray of its own"
    return f", on {where} with rollout actors: {n_rollout_actors(config)}"


def _make_sinks(config: TrainingConfig, folders: RunFolders, checkpoint: dict[str, Any] | None) -> list[Sink]:
    """Where metrics go.

    Raises:
        ConfigError: a file cannot be written.
    """
    resume_episode = checkpoint["episode"] if checkpoint else None
    sinks: list[Sink] = []
    try:
        if config.jsonl:
            evaluated = checkpoint["counters"]["evaluated_episode"] if checkpoint else None
            sinks.append(JsonLinesSink(folders.output / METRICS_FILE, resume_episode, evaluated))
        if config.tensorboard:
            sinks.append(TensorBoardSink(folders.output / "tensorboard", resume_episode, config.as_dict()))
    except OSError as error:
        raise ConfigError(f"--output_dir: {folders.output} cannot be written ({error.strerror}).") from error
    if config.wandb:
        sinks.append(
            WandbSink(
                project=config.wandb_project,
                run_name=folders.name,
                config=config.as_dict(),
                tags=[*(env.name for env in environments_of(config.training_env)), config.feature_set],
                directory=folders.output,
                run_id=checkpoint["wandb_run_id"] if checkpoint else None,
            )
        )
    sinks.append(ConsoleSink(config.n_episodes, resume_episode or 0, progress_bar=config.progress_bar))
    return sinks


def _warn(text: str) -> None:
    complain(f"warning: {text}")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
