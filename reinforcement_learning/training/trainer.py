"""The training loop: collect, learn, evaluate, checkpoint, log. Start reading at :meth:`Trainer.run`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from reinforcement_learning.learning.replay_buffer import ReplayBufferError
from reinforcement_learning.multi_policy.exchange import Reached
from reinforcement_learning.multi_policy.objective import reached_by
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import Experience, ExperienceError, FinishedEpisode
from reinforcement_learning.playing.play_levels import play_levels_together
from reinforcement_learning.saving.checkpoint_writer import CheckpointWriter
from reinforcement_learning.saving.checkpointing import CheckpointError
from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.features import feature_set_of, training_observer
from reinforcement_learning.tracking.json_lines_sink import MAPPING_FILE, JsonLinesSink
from reinforcement_learning.tracking.metrics import MetricsWriter
from reinforcement_learning.training.curriculum import Curriculum
from reinforcement_learning.training.population_scores import score_population
from reinforcement_learning.training.reports import exchange_lines, exchange_row, hyperparameters_row
from reinforcement_learning.training.training_metrics import TrainingMetrics
from reinforcement_learning.training.training_state import BestEvaluation, TrainingState
from reinforcement_learning.workers.players import make_players
from utils.levels.level_pool import LEVELS_AHEAD, LevelPool
from utils.levels.playable_levels import EvaluationLevels, PlayableLevels
from utils.pictures.rendering import RecordedSimulator
from utils.simulator.simulator import Simulator
from utils.system.device_errors import is_device_error
from utils.system.stopwatch import Stopwatch
from utils.system.users_code import UsersCodeError


class Trainer:
    """One training, from its first episode or from a checkpoint to its last.

    Args:
        logs_mapping: whether a file tells which policy has driven which train.
        stop_requested: asked between steps; True ends the training with a checkpoint.
        devices: where each policy lives and learns; where that is more than one place, each has a process, see
            :meth:`close`. None: on the CPU.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folders: RunFolders,
        *,
        metrics: MetricsWriter | None = None,
        logs_mapping: bool = False,
        stop_requested: Callable[[], bool] = lambda: False,
        devices: Sequence[str | torch.device] | None = None,
    ) -> None:
        self.config, self.folders = config, folders
        self.metrics = metrics or MetricsWriter()
        self._logs_mapping = logs_mapping
        self._process = psutil.Process()
        self._mapping_log: JsonLinesSink | None = None  # from the first line on
        self._resumed_from: int | None = None  # episode
        self.stop_requested = stop_requested
        self.feature_set = feature_set_of(config)
        self.observer = training_observer(config, self.feature_set, evaluates=True)
        self.stopwatch = Stopwatch()
        self.level_pool = LevelPool(
            config.training_env,
            config.seed,
            config.level_workers,
            end=config.n_episodes,
            n_ahead=max(LEVELS_AHEAD, 2 * config.num_envs),
            plan=self.observer.plan_ahead,
            warn=self._warn,
        )
        self.evaluation_levels = EvaluationLevels(
            config.evaluation_env,
            config.seed,
            config.n_evaluation_episodes,
            compiled=config.simulator == "compiled",
            plan=self.observer.plan_ahead,
        )
        self.population, self.experience = self._make_players(devices)
        self.training_metrics = TrainingMetrics(self.population)
        self.curriculum = Curriculum(
            config,
            self.level_pool.levels,
            self.experience,
            self.population.assignment.is_demonstration,
            self.metrics.message,
        )
        self.state = TrainingState(
            config,
            folders.name,
            self.feature_set,
            self.population,
            self.experience,
            self.curriculum,
            self.training_metrics.smoothed,
            self.stopwatch,
            self.metrics,
        )
        self.checkpoints = CheckpointWriter(config, folders, self.population.learners, self._warn)
        self._unsaved_files: list[str] = []

    @property
    def episode(self) -> int:
        """Finished episodes."""
        return self.state.episode

    def resume(self, path: Path | None, checkpoint: dict[str, Any] | None) -> list[str]:
        """Goes on from a checkpoint, where there is one, and fills the replay buffers, where there is a file for them.

        Replay buffers come from ``--restore_replay_buffer``, or else from the files that belong to the checkpoint.

        Returns:
            Sentences that the user should read.

        Raises:
            CheckpointError: the checkpoint does not fit the training.
            ReplayBufferError: the file that was asked for cannot be used.
        """
        notes = []
        if checkpoint is not None:
            try:
                self.state.load_state_dict(checkpoint)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise CheckpointError(f"{path} is damaged: parts of it do not belong together.") from error
            self._resumed_from = self.episode
            notes.append(f"Resuming {path} after episode {self.episode}.")
        learners = self.population.learners
        belonging = checkpoint.get("replay_buffers", []) if checkpoint else []
        if self.config.restore_replay_buffer:  # every policy starts with it
            for learner in learners:
                learner.buffer.restore(self.config.restore_replay_buffer)
            notes.append(f"Restored {len(learners[0].buffer)} transitions from {self.config.restore_replay_buffer}.")
        elif belonging:
            for learner, buffer in zip(learners, belonging, strict=True):
                try:
                    learner.buffer.restore(buffer)
                    notes.append(f"Restored {len(learner.buffer)} transitions from {buffer}.")
                except ReplayBufferError as error:
                    notes.append(f"warning: {error} The replay buffer fills anew.")
        elif checkpoint is not None:
            notes.append(_why_it_fills_anew(checkpoint))
        return notes

    def run(self) -> bool:
        """Trains until all episodes are done (True) or a stop is requested (False); both leave a checkpoint.

        Raises:
            ExperienceError: the processes or actors that play cannot go on; that leaves a checkpoint, too.
                A GPU that fails is told like that, with what was last copied from it.
            UsersCodeError: a user's network, features, reward or mapping breaks; so does that.
        """
        # processes end with the training, however that ends
        with self.level_pool, closing(self.population), closing(self.experience):
            try:
                return self._run()
            except ExperienceError as error:
                with suppress(ExperienceError):  # learners that never began have nothing to save
                    error.saved = self._fetch_and_save()
                raise
            except UsersCodeError as error:
                fetched = False
                while not fetched:
                    with suppress(UsersCodeError):  # others that play may say the same
                        self.population.fetch()
                        fetched = True
                error.saved = self.save_checkpoint()
                raise
            except RuntimeError as error:
                if not is_device_error(error):
                    raise
                told = self.population.lose_devices(error)
                told.saved = self._fetch_and_save()
                raise told from error

    def close(self) -> None:
        """Ends the processes that learn, as :meth:`run` does, for trainings that do not get there, and closes files."""
        self.population.close()
        if self._mapping_log is not None:
            self._mapping_log.close()

    def _make_players(self, devices: Sequence[str | torch.device] | None) -> tuple[Population, Experience]:
        """The policies, and what plays them: this process, or others, or actors on Ray."""
        config = self.config
        levels = PlayableLevels(self.level_pool, config.simulator, self._warn)
        if config.async_rl:
            from reinforcement_learning.distributed import players  # Ray need not be installed otherwise

            return players.make_players(
                config,
                self.feature_set,
                devices,
                levels,
                stopwatch=self.stopwatch,
                stop_requested=self.stop_requested,
                warn=self._warn,
            )
        observer = training_observer(config, self.feature_set)
        return make_players(config, devices, levels, observer, stopwatch=self.stopwatch, warn=self._warn)

    def _run(self) -> bool:
        if self.episode > self.config.n_episodes:  # resumed with a smaller number: there is nothing left to do
            return True
        if self.config.with_pbt and self.experience.next_level == 0:  # not again after an early stop
            first = [asdict(values) for values in self.population.first_hyperparameters]
            self.metrics.log(0, hyperparameters_row(first))
        while True:
            if self._evaluation_is_due():
                if not self.evaluate():
                    break
                if self.episode > 0:
                    self.save_checkpoint()
            if self.episode >= self.config.n_episodes:
                return True
            if self.stop_requested():
                break
            self.play_and_learn()
        self._fetch_and_save()
        return False

    # --- collecting and learning ---------------------------------------------------------------------------------

    def play_and_learn(self) -> None:
        """Some new experience, and the learning steps that are due for it."""
        finished = self.experience.play()
        self.stopwatch.start()
        try:
            self.population.learn()
            self.stopwatch.lap("learn")  # processes book their own time
            if finished or self.population.has_failed:
                self.population.wait()  # what has failed is told here, not while the episodes are counted
        except RuntimeError as error:
            if is_device_error(error):
                self.population.lose_devices(error)  # or counting what is over would wait for the losses
            raise
        finally:  # a checkpoint counts what is over also where a user's network breaks here
            self._count(finished)

    def _count(self, finished: Sequence[FinishedEpisode]) -> None:
        """Books episodes that are over."""
        for episode in finished:
            self.state.episode += 1
            self.state.train_steps += episode.result.n_steps * episode.result.n_trains
            self.population.after_episode(self.episode, episode.result.policy_of_train)
            self._log_training(episode)
            self._log_mapping(episode)
        if finished:
            self.population.forget_losses()

    # --- evaluating ----------------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        # several episodes may end in one step, so the count of them may pass a multiple without being one
        interval = self.config.checkpoint_interval
        evaluated = self.state.evaluated_episode
        at_start = self.episode == 0 and not self.state.last_evaluation  # where the learning curve begins
        at_interval = self.episode // interval > evaluated // interval
        at_end = self.episode >= self.config.n_episodes and self.episode > evaluated
        return at_start or at_interval or at_end or self._exchange_is_due()

    def _exchange_is_due(self) -> bool:
        """Whether it is time for a step of population-based training; after the last episode it is not."""
        config, before = self.config, self.population.exchanges
        period, episode = config.pbt_period_episodes, self.episode
        passed = episode // period > (before[-1]["episode"] // period if before else 0)
        return config.with_pbt and passed and config.pbt_start_episodes <= episode < config.n_episodes

    def evaluate(self) -> bool:
        """Scores the greedy policies on the evaluation levels; False where a stop was requested meanwhile."""
        self.population.fetch()
        started = time.perf_counter()
        found = score_population(
            self.population,
            self.levels_to_evaluate,
            len(self.evaluation_levels),
            self.observer,
            should_stop=self.stop_requested,
            between_steps=self.experience.go_on,
        )
        if found is None:
            return False
        self.stopwatch.seconds["evaluation"] += time.perf_counter() - started
        metrics = found.metrics()
        for name in ("score", "completion"):
            smoothed = self.training_metrics.smoothed[f"evaluation/{name}"]
            metrics[f"evaluation/smoothed_{name}"] = smoothed.update(metrics[f"evaluation/{name}s_mean"])
        self.metrics.log(self.episode, metrics)
        self.state.last_evaluation = metrics
        self.state.evaluated_episode = self.episode
        reached, best = found.reached[found.best], self.state.best
        if self.episode > 0 and reached >= Reached(best.score, best.completion):
            self._save_best(reached, found.best)
        if self._exchange_is_due():
            self.population.exchange(self.episode, reached_by(found.alone, self.config.pbt_objective))
            self._log_exchange()
        if self.config.render:
            self._render()
        return True

    def levels_to_evaluate(self) -> Iterator[Simulator]:
        """The levels of every evaluation, ready to play: on flatland-rl itself when all episodes are done."""
        if self.episode >= self.config.n_episodes:
            return self.evaluation_levels.on_flatland()
        return self.evaluation_levels.simulators()

    def _render(self) -> None:
        """Films the first evaluation level."""
        policies, policy_of_train = self.population.evaluation_policies(), self.population.mapping.policy_of_train
        simulator = RecordedSimulator(
            self.evaluation_levels.make(0),
            f"{self.folders.name}, episode {self.episode}, first level of {self.config.evaluation_env.name}",
            partial(policy_of_train, 0) if len(policies) > 1 else None,
        )
        play_levels_together([simulator], self.observer, policies, policy_of_train)
        path = self.folders.output / f"episode_{self.episode:07d}.gif"
        try:
            simulator.recorder.save(path)
        except OSError as error:
            self.could_not_save(path, error.strerror, "; training goes on")
            return
        self.metrics.picture("evaluation/episode", path, self.episode)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    @property
    def unsaved(self) -> list[str]:
        """What should have been saved and could not be, in words."""
        return [*self.checkpoints.unsaved, *self.metrics.unsaved, *self._unsaved_files]

    def save_checkpoint(self) -> bool:
        """Saves a checkpoint of this moment; whether that could be written. Where not it costs a warning."""
        return self.checkpoints.save(self.state.state_dict())

    def could_not_save(self, path: Path, why: object, rest: str = "") -> None:
        """Warns of a file that cannot be written."""
        self._unsaved_files.append(path.name)
        self._warn(f"{path} could not be written ({why}){rest}.")

    def _fetch_and_save(self) -> bool:
        self.population.fetch()
        return self.save_checkpoint()

    def _save_best(self, reached: Reached, policy: int) -> None:
        """The best so far is what its file holds; one that cannot be written does not count."""
        before = self.state.best
        self.state.best = BestEvaluation(reached.score, self.episode, policy, reached.completion)
        if not self.checkpoints.save_best(self.state.state_dict()):
            self.state.best = before

    # --- metrics -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, float]:
        """Numbers that describe the training as a whole."""
        state = self.state
        best = {"best/score": state.best.score, "best/episode": state.best.episode} if state.best.episode else {}
        return {"episode": state.episode, "timer/total": state.seconds, **state.last_evaluation, **best}

    def _log_training(self, episode: FinishedEpisode) -> None:
        row = self.training_metrics.of_episode(episode.level_number, episode.result)
        seconds = self.stopwatch.seconds
        parts = ("reset", "step", "observation", "inference", "learn", "evaluation")
        row |= {f"timer/{part}": seconds[part] for part in parts}
        row["timer/total"] = self.state.seconds
        row["throughput/train_steps_per_second"] = self.state.train_steps / row["timer/total"]
        row["throughput/learning_steps_per_second"] = self.population.learning_steps / row["timer/total"]
        row |= self.experience.metrics() | self.curriculum.after_episode(episode, self.episode)
        row["system/resident_memory_mb"] = self._process.memory_info().rss / 1e6
        self.metrics.log(self.episode, row)

    def _log_mapping(self, episode: FinishedEpisode) -> None:
        """Writes who has driven each train; numbers behind those of the policies are older copies."""
        if not self._logs_mapping:
            return
        path, policies = self.folders.output / MAPPING_FILE, episode.result.policy_of_train.tolist()
        row = {"episode": self.episode, "level_number": episode.level_number, "policy_of_train": policies}
        try:
            self._mapping_log = self._mapping_log or JsonLinesSink(path, self._resumed_from)
            self._mapping_log.write(row)
        except OSError as error:
            self.could_not_save(path, error.strerror, "; training goes on without it")
            self._logs_mapping = False

    def _log_exchange(self) -> None:
        exchange = self.population.exchanges[-1]
        self.metrics.log(self.episode, exchange_row(exchange))
        for line in exchange_lines(exchange):
            self.metrics.message(line)

    def _warn(self, text: str) -> None:
        self.metrics.message(f"warning: {text}")


def _why_it_fills_anew(checkpoint: dict[str, Any]) -> str:
    if checkpoint["config"].get("save_replay_buffer"):
        return (
            "The saved replay buffers of this run belong to its numbered checkpoints, of which this is none: the "
            "replay buffer fills anew."
        )
    return "The checkpoint has no saved replay buffer (see --save_replay_buffer): it fills anew."
