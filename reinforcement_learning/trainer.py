"""The training loop: collect, learn, evaluate, checkpoint, log. Start reading at :meth:`Trainer.run`."""

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.checkpointing import (
    BEST,
    numbered_checkpoint,
    remove_all_but_newest,
    write_checkpoint,
)
from reinforcement_learning.config import TrainingConfig
from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.evaluation import evaluation_metrics, play_levels
from reinforcement_learning.experience import Experience, LocalExperience, PlayableLevels, UnfinishedEpisode
from reinforcement_learning.exploration import EpsilonSchedule
from reinforcement_learning.metrics import MetricsWriter, Smoothed
from reinforcement_learning.replay_buffer import ReplayBuffer
from reinforcement_learning.reward_shaping import RewardShaping
from reinforcement_learning.rollout import EpisodeResult, Learning, Stopwatch
from reinforcement_learning.rollout_workers import RolloutWorkerError, RolloutWorkers
from reinforcement_learning.run_folders import RunFolders
from utils.env_configs import resolve_env_config
from utils.level_pool import LEVELS_AHEAD, EvaluationLevels, LevelPool
from utils.observation_utils import Observer, get_feature_set
from utils.random_streams import Stream, generator
from utils.rendering import EpisodeRecorder, RecordedSimulator
from utils.simulator import FlatlandSimulator

ACTION_NAMES = ("do_nothing", "left", "forward", "right", "stop")
SMOOTHED = ("training/score", "training/completion", "evaluation/score", "evaluation/completion")


class Trainer:
    """One training, from its first episode or from a checkpoint to its last.

    Args:
        config: the whole configuration.
        folders: where checkpoints, buffers and pictures go.
        metrics: where numbers go.
        stop_requested: asked between steps; True ends the training with a checkpoint.
        device: where the policy learns.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folders: RunFolders,
        *,
        metrics: MetricsWriter | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config, self.folders = config, folders
        self.metrics = metrics or MetricsWriter([])
        self.stop_requested = stop_requested
        self.wandb_run_id: str | None = None  # kept in checkpoints: a resumed training continues its run there
        self.feature_set = get_feature_set(config.feature_set)
        self.observer = Observer(self.feature_set, config.action_mask, config.decision_points, config.safe_moves)
        self.policy = DDDQNPolicy(
            self.feature_set.n_features,
            config.hidden_size,
            learning_rate=config.learning_rate,
            tau=config.tau,
            advantage_learning=config.advantage_learning,
            averaging_steps=config.averaging_steps,
            max_grad_norm=config.max_grad_norm,
            guide=config.guided_exploration,
            route_features=self.feature_set.route_features,
            seed=config.seed,
            device=device,
        )
        self.buffer = ReplayBuffer(config.buffer_size, self.feature_set, generator(config.seed, Stream.REPLAY_SAMPLING))
        shaping = RewardShaping(config.gamma, config.shaping, config.arrival_reward, config.deadlock_penalty)
        learning = Learning(self.buffer, shaping, config.n_step)
        self.epsilon = EpsilonSchedule(config.eps_start, config.eps_end, config.eps_decay)
        self.level_pool = LevelPool(
            resolve_env_config(config.training_env_config),
            config.seed,
            config.level_workers,
            end=config.n_episodes,
            n_ahead=max(LEVELS_AHEAD, 2 * config.num_envs),
            cache_folder=Path(config.level_cache) if config.level_cache else None,
            warn=self._warn,
        )
        self.evaluation_levels = EvaluationLevels(
            resolve_env_config(config.evaluation_env_config), config.seed, config.n_evaluation_episodes
        )
        self.stopwatch = Stopwatch()
        self.experience = self._make_experience(learning)
        self.smoothed = {name: Smoothed(0.9) for name in SMOOTHED}
        # counters: with the random states of policy and buffer they are all that a resumed training needs
        self.episode = 0  # finished episodes
        self.train_steps = 0  # steps of the environment times trains
        self.transitions_to_learn_from = 0  # collected since the last learning step
        self.evaluated_episode = 0
        self.best_score = -math.inf  # of all evaluations
        self.best_episode = 0
        self.last_evaluation: dict[str, float] = {}
        self.seconds = 0.0  # spent on this training before this process
        self._losses: list[torch.Tensor] = []
        self._started = time.perf_counter()

    def run(self) -> bool:
        """Trains until all episodes are done (True) or a stop is requested (False); both leave a checkpoint.

        Raises:
            RolloutWorkerError: the processes that play cannot go on; that leaves a checkpoint, too.
        """
        # processes end with the training, however that ends
        with self.level_pool, closing(self.experience):
            try:
                return self._run()
            except RolloutWorkerError:
                self._save_checkpoint()
                raise

    def _make_experience(self, learning: Learning) -> Experience:
        """What plays: this process, or others."""
        levels = PlayableLevels(self.level_pool, self.config.simulator, self._warn)
        if self.config.num_workers > 0:
            return RolloutWorkers(
                self.config, levels, self.policy, learning.sink, stopwatch=self.stopwatch, warn=self._warn
            )
        return LocalExperience(
            levels,
            self.config.n_episodes,
            self.observer,
            self.policy,
            learning,
            self.epsilon,
            n_envs=self.config.num_envs,
            stopwatch=self.stopwatch,
        )

    def _run(self) -> bool:
        while True:
            if self._evaluation_is_due():
                if not self._evaluate():
                    break
                self._save_checkpoint()
            if self.episode >= self.config.n_episodes:
                return True
            if self.stop_requested():
                break
            self._play_and_learn()
        self._save_checkpoint()
        return False

    # --- collecting and learning ---------------------------------------------------------------------------------

    def _play_and_learn(self) -> None:
        """Some new experience, and the learning steps that are due for it."""
        added_before = self.buffer.n_added
        finished = self.experience.play()
        self._learn(self.buffer.n_added - added_before)
        for episode in finished:
            self.episode += 1
            self.train_steps += episode.result.n_steps * episode.result.n_trains
            self._log_training(episode.result, self.epsilon(episode.level))
        if finished:
            self._losses.clear()

    def _learn(self, n_new_transitions: int) -> None:
        """Takes the learning steps that are due: one per ``update_every`` transitions."""
        self.transitions_to_learn_from += n_new_transitions
        if len(self.buffer) < max(self.config.buffer_min_size, self.config.batch_size):
            self.transitions_to_learn_from = 0
        self.stopwatch.start()
        while self.transitions_to_learn_from >= self.config.update_every:
            self.transitions_to_learn_from -= self.config.update_every
            batch = self.buffer.sample(self.config.batch_size, self.policy.device)
            self._losses.append(self.policy.learn(batch))
        self.stopwatch.lap("learn")

    # --- evaluating ----------------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        # several episodes may end in one step, so the count of them may pass a multiple without being one
        interval = self.config.checkpoint_interval
        at_interval = self.episode // interval > self.evaluated_episode // interval
        at_end = self.episode >= self.config.n_episodes and self.episode > self.evaluated_episode
        return at_interval or at_end

    def _evaluate(self) -> bool:
        """Scores the greedy policy on the evaluation levels; False where a stop was requested meanwhile."""
        started = time.perf_counter()
        levels = map(FlatlandSimulator, self._evaluation_envs())
        policy = self.policy.evaluation_policy()
        results = play_levels(levels, self.observer, policy, should_stop=self.stop_requested)
        if len(results) < self.config.n_evaluation_episodes:
            return False
        self.stopwatch.seconds["evaluation"] += time.perf_counter() - started
        metrics = evaluation_metrics(results)
        score, completion = metrics["evaluation/scores_mean"], metrics["evaluation/completions_mean"]
        metrics["evaluation/smoothed_score"] = self.smoothed["evaluation/score"].update(score)
        metrics["evaluation/smoothed_completion"] = self.smoothed["evaluation/completion"].update(completion)
        self.metrics.log(self.episode, metrics)
        self.last_evaluation = metrics
        self.evaluated_episode = self.episode
        if score > self.best_score:
            self.best_score, self.best_episode = score, self.episode
            self._write(self.folders.checkpoints / BEST)
        if self.config.render:
            self._render()
        return True

    def _evaluation_envs(self) -> Iterator[RailEnv]:
        return (self.evaluation_levels.make(i) for i in range(self.config.n_evaluation_episodes))

    def _render(self) -> None:
        """Films the first evaluation level."""
        env = self.evaluation_levels.make(0)
        recorder = EpisodeRecorder(env)
        play_levels([RecordedSimulator(env, recorder)], self.observer, self.policy.evaluation_policy())
        path = self.folders.output / f"episode_{self.episode:07d}.gif"
        try:
            recorder.save(path)
        except OSError as error:
            self._warn(f"{path} could not be written ({error.strerror}); training goes on.")
            return
        self.metrics.picture("evaluation/episode", path, self.episode)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        """Buffer first, then the checkpoint that names it: whichever moment a kill picks, the pair fits together."""
        buffer_path = None
        if self.config.save_replay_buffer:
            buffer_path = self._save_buffer()
        path = numbered_checkpoint(self.folders.checkpoints, self.episode)
        if self._write(path, buffer_path):
            remove_all_but_newest(self.folders.checkpoints, "episode_*.pt", self.config.keep_checkpoints)
            if buffer_path is not None:
                remove_all_but_newest(self.folders.replay_buffers, "episode_*.npz", 1)

    def _save_buffer(self) -> Path | None:
        # n_added in the name: an interrupted episode must not overwrite the buffer of the checkpoint before it
        path = self.folders.replay_buffers / f"episode_{self.episode:07d}_{self.buffer.n_added}.npz"
        try:
            self.buffer.save(path)
        except OSError as error:
            self._warn(f"the replay buffer could not be saved to {path} ({error.strerror}).")
            return None
        return path

    def _write(self, path: Path, buffer_path: Path | None = None) -> bool:
        try:
            write_checkpoint(path, self.state_dict() | {"replay_buffer": str(buffer_path) if buffer_path else None})
        except OSError as error:
            self._warn(f"the checkpoint {path} could not be written ({error.strerror}); earlier ones are unharmed.")
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs but the replay buffer, in tensors and plain values."""
        return {
            "episode": self.episode,
            "next_level": self.experience.next_level,
            # which levels, in which environments, and all actions so far: enough to come back to where they are
            "unfinished": [
                {
                    "env": episode.env,
                    "level": episode.level,
                    "actions": torch.from_numpy(np.array(episode.actions, dtype=np.int8)),
                }
                for episode in self.experience.unfinished()
            ],
            # a resumed training starts from this checkpoint's own buffer, not again from the one given at the beginning
            "config": self.config.as_dict()
            | {"run_name": self.folders.name, "resume": "", "restore_replay_buffer": ""},
            "feature_set": {"name": self.feature_set.name, "version": self.feature_set.version},
            "policy": self.policy.state_dict(),
            "sampling": self.buffer.random.bit_generator.state,
            "counters": {
                "train_steps": self.train_steps,
                "transitions_to_learn_from": self.transitions_to_learn_from,
                "n_added": self.buffer.n_added,
                "evaluated_episode": self.evaluated_episode,
            },
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.empty(0),
            "smoothed": {name: smoothed.state_dict() for name, smoothed in self.smoothed.items()},
            "best": {"score": self.best_score, "episode": self.best_episode},
            "last_evaluation": self.last_evaluation,
            "seconds": self._seconds(),
            "seconds_by_part": dict(self.stopwatch.seconds),
            "wandb_run_id": self.wandb_run_id,
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "numpy", "flatland-rl")},
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint's content; the replay buffer is restored apart from it."""
        self.episode = state["episode"]
        self.experience.resume(
            state["next_level"],
            [
                UnfinishedEpisode(level["env"], level["level"], list(level["actions"].numpy()))
                for level in state["unfinished"]
            ],
        )
        self.policy.load_state_dict(state["policy"])
        self.buffer.random.bit_generator.state = state["sampling"]
        counters = state["counters"]
        self.train_steps = counters["train_steps"]
        self.transitions_to_learn_from = counters["transitions_to_learn_from"]
        self.evaluated_episode = counters["evaluated_episode"]
        self._losses = list(state["losses"].to(self.policy.device))
        for name, smoothed in self.smoothed.items():
            smoothed.load_state_dict(state["smoothed"][name])
        measured = ("evaluation_env_config", "n_evaluation_episodes")
        if all(state["config"][name] == getattr(self.config, name) for name in measured):
            self.best_score, self.best_episode = state["best"]["score"], state["best"]["episode"]
        self.last_evaluation = state["last_evaluation"]
        self.wandb_run_id = state["wandb_run_id"]
        self.seconds = state["seconds"]
        self.stopwatch.seconds.update(state["seconds_by_part"])

    # --- metrics -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, float]:
        """Numbers that describe the training as a whole."""
        best = {"best/score": self.best_score, "best/episode": self.best_episode} if self.best_episode else {}
        return {"episode": self.episode, "timer/total": self._seconds(), **self.last_evaluation, **best}

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self._started

    def _log_training(self, result: EpisodeResult, epsilon: float) -> None:
        metrics = {
            "training/score": result.score,
            "training/smoothed_score": self.smoothed["training/score"].update(result.score),
            "training/completion": result.completion,
            "training/smoothed_completion": self.smoothed["training/completion"].update(result.completion),
            "training/nb_steps": result.n_steps,
            "training/deadlocked": result.deadlocked,
            "training/never_departed": result.never_departed,
            "training/epsilon": epsilon,
            "training/buffer_size": len(self.buffer),
            "training/loss": float(torch.stack(self._losses).mean()) if self._losses else math.nan,
        }
        for name, count in zip(ACTION_NAMES, result.action_counts, strict=True):
            metrics[f"actions/{name}"] = count / max(result.n_decisions, 1)
        seconds = self.stopwatch.seconds
        parts = ("reset", "step", "observation", "inference", "learn", "evaluation")
        metrics |= {f"timer/{part}": seconds[part] for part in parts}
        metrics["timer/total"] = self._seconds()
        metrics["throughput/train_steps_per_second"] = self.train_steps / metrics["timer/total"]
        metrics["throughput/learning_steps_per_second"] = self.policy.learning_steps / metrics["timer/total"]
        metrics["system/resident_memory_mb"] = psutil.Process().memory_info().rss / 1e6
        self.metrics.log(self.episode, metrics)

    def _warn(self, text: str) -> None:
        self.metrics.message(f"warning: {text}")
