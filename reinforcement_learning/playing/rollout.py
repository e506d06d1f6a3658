"""Plays levels side by side, step by step. Evaluation is the same rollout without a recorder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.episode_rows import NOT_SHOWN, RowSink
from reinforcement_learning.playing.policy import Policy, act_with_each, choose_actions
from reinforcement_learning.playing.recorder import Decisions, Recorder
from reinforcement_learning.playing.reward_shaping import LearningReward, StepOfTrains, parts_of_step, potential
from reinforcement_learning.playing.train_settings import TrainSettings
from utils.observation.observer import Observer
from utils.simulator.action_mask import NOTHING_TO_DECIDE
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import N_ACTIONS
from utils.simulator.rail_state import RailState, remaining_travel_time
from utils.simulator.simulator import Simulator
from utils.simulator.state_arrays import DONE, ROW, STATE
from utils.system.stopwatch import Stopwatch

ALONE = TrainSettings()  # all trains driven by the only policy, greedily


@dataclass(frozen=True)
class Learning:
    """What a rollout needs beyond playing: where the rows of finished episodes go, and a user's reward."""

    sink: RowSink
    own_reward: LearningReward | None = None  # in place of the environment's
    asks_plan: bool = False  # whether rows hold the plan's actions in the policies' own episodes, too


@dataclass
class _Episode:
    """One level in play."""

    simulator: Simulator
    n_steps: int = 0
    # all actions so far, int8 [trains] each: a level and its actions are enough to come back to this point
    history: list[npt.NDArray[np.int8]] = field(default_factory=list)


class Rollout:
    """Up to ``n_slots`` episodes side by side: each step asks each policy once for all its trains that have a choice.

    Each episode plays in a slot. Arrays are ``[n_slots, n_trains]``; in a slot without an episode there is nothing to
    decide.

    Args:
        observer: makes observations and action masks.
        policies: choose the actions of trains that have a choice; train settings name them by their numbers.
        n_trains: most trains in a level.
        n_slots: most episodes at a time.
        learning: where the rows of episodes go; None, as in an evaluation, leaves no way to write any.
        stopwatch: books the seconds of the parts.
    """

    def __init__(
        self,
        observer: Observer,
        policies: Sequence[Policy],
        n_trains: int,
        *,
        n_slots: int = 1,
        learning: Learning | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.observer = observer
        self.policies = policies
        self.n_trains = n_trains
        self.stopwatch = stopwatch or Stopwatch()
        self._episodes: list[_Episode | None] = [None] * n_slots
        shape, n_features = (n_slots, n_trains), observer.feature_set.n_features
        self._observations = np.zeros((*shape, n_features), dtype=np.float32)
        self._action_mask = np.broadcast_to(NOTHING_TO_DECIDE, (*shape, N_ACTIONS)).copy()
        self._epsilon = np.zeros(shape)
        self._policy_of_train = np.zeros(shape, dtype=np.int64)
        self._is_demonstration = np.zeros(n_slots, dtype=bool)
        self._shown = np.full(shape, NOT_SHOWN)  # actions of the plan, where it is asked
        self._train_rewards = np.zeros(shape)  # since the episode's beginning
        self._rewards = np.zeros(shape)
        self._remaining = np.zeros(shape)  # travel time in steps
        self._max_episode_steps = np.ones((n_slots, 1), dtype=np.int64)
        self.arrived = np.zeros(shape, dtype=bool)
        self.departed = np.zeros(shape, dtype=bool)
        self.deadlocked = np.zeros(shape, dtype=bool)
        self._action_counts = np.zeros((n_slots, N_ACTIONS), dtype=np.int64)
        self.n_decisions = 0  # so far, in all episodes
        self._learning = learning
        self._recorder = Recorder(n_slots, n_trains)

    @property
    def playing(self) -> list[int]:
        """The slots with an episode under way."""
        return [slot for slot, episode in enumerate(self._episodes) if episode is not None]

    @property
    def free(self) -> list[int]:
        """The slots that wait for a level."""
        return [slot for slot, episode in enumerate(self._episodes) if episode is None]

    def history(self, slot: int) -> list[npt.NDArray[np.int8]]:
        """All actions of the running episode, int8 ``[trains]`` for each step."""
        return self._episode(slot).history

    def start(self, slot: int, simulator: Simulator, train_settings: TrainSettings = ALONE) -> None:
        """Begins an episode in a free slot.

        Raises:
            ValueError: the slot is not free, or the level has more trains than the arrays.
        """
        state = simulator.state
        if self._episodes[slot] is not None:
            raise ValueError(f"slot {slot} has an episode under way")
        if state.n_trains > self.n_trains:
            raise ValueError(f"the level has {state.n_trains} trains, but there is room for {self.n_trains} only")
        self._episodes[slot] = _Episode(simulator)
        train_settings = train_settings.padded(state.n_trains, self.n_trains)
        self._epsilon[slot] = train_settings.epsilon
        self._policy_of_train[slot] = train_settings.policy_of_train
        self._is_demonstration[slot] = train_settings.demonstration
        for array in (self.arrived, self.departed, self.deadlocked):
            array[slot] = False
        for array in (self._remaining, self._rewards, self._train_rewards):
            array[slot] = 0.0
        self._action_counts[slot] = 0
        if self._learning is not None:
            self._remaining[slot, : state.n_trains] = remaining_travel_time(state)
            self._max_episode_steps[slot] = state.max_episode_steps
            self._recorder.begin(slot, train_settings, potential(self._remaining[slot], state.max_episode_steps))
        self._observe(slot)

    def step(self) -> list[tuple[int, EpisodeResult]]:
        """One step of all episodes; returns those that are over, with their slots, which are free again."""
        return self._step(None)

    def replay(
        self, interrupted: Mapping[int, tuple[Simulator, TrainSettings, Sequence[npt.NDArray[np.int8]]]]
    ) -> None:
        """Comes back to the middle of interrupted episodes: by slot the level, settings and all actions so far.

        Each is begun as many steps before the end as it has played, so they run side by side as they did.
        """
        for left in range(max((len(history) for *_, history in interrupted.values()), default=0), -1, -1):
            for slot, (simulator, train_settings, history) in interrupted.items():
                if len(history) == left:
                    self.start(slot, simulator, train_settings)
            if left:
                self._step(
                    {slot: history[-left] for slot, (*_, history) in interrupted.items() if len(history) >= left}
                )

    def _episode(self, slot: int) -> _Episode:
        episode = self._episodes[slot]
        assert episode is not None, f"slot {slot} has no episode"
        return episode

    def _step(self, recorded: Mapping[int, npt.NDArray[np.int8]] | None) -> list[tuple[int, EpisodeResult]]:
        self.stopwatch.start()
        actions = self._choose(recorded)
        self.stopwatch.lap("inference")
        over = np.zeros(len(self._episodes), dtype=bool)
        playing = self.playing
        for slot in playing:
            episode = self._episode(slot)
            state = episode.simulator.state
            chosen = actions[slot, : state.n_trains]
            episode.history.append(chosen.astype(np.int8))
            # who must wait after all belongs to the environment: what is learned from is what was chosen
            self.observer.settle(state, chosen)
            self._rewards[slot, : state.n_trains], over[slot] = episode.simulator.step(chosen)
        self.stopwatch.lap("step")
        self._after_step(playing, actions, over)
        finished = []
        for slot in playing:
            if over[slot]:
                finished.append((slot, self._result(slot)))
                self._leave(slot)
        for slot in self.playing:
            self._observe(slot)
        # nothing that a deadlocked train does matters any more; its last decision stays open until the episode ends
        self._action_mask[self.deadlocked] = NOTHING_TO_DECIDE
        self.stopwatch.lap("observation")
        return finished

    def _choose(self, recorded: Mapping[int, npt.NDArray[np.int8]] | None) -> npt.NDArray[np.int64]:
        """Actions ``[n_slots, n_trains]``: the only possible one, or where there are several the policy's.

        Where actions are ``recorded``, by slot, those are taken.
        """
        mask = self._action_mask.reshape(-1, N_ACTIONS)
        observations = self._observations.reshape(len(mask), -1)
        done_then = np.zeros(self._policy_of_train.shape, dtype=np.int64)
        for slot, of_slot in (recorded or {}).items():
            done_then[slot, : len(of_slot)] = of_slot

        def choose(deciding: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
            seen, possible = observations.take(deciding, axis=0), mask.take(deciding, axis=0)
            shown, slot = self._shown.take(deciding), deciding // self.n_trains
            if recorded is None:
                policy_of_train, epsilon = self._policy_of_train.take(deciding), self._epsilon.take(deciding)
                chosen = act_with_each(self.policies, policy_of_train, seen, possible, epsilon)
                is_demonstrated = self._is_demonstration[slot] & (shown != NOT_SHOWN)
                chosen = np.where(is_demonstrated, shown, chosen)
            else:
                chosen = done_then.take(deciding)
            np.add.at(self._action_counts, (slot, chosen), 1)
            self.n_decisions += len(deciding)
            if self._learning is not None:
                self._recorder.decide(Decisions(deciding, seen, possible, chosen, shown))
            return chosen

        actions = choose_actions(mask, choose).reshape(self._policy_of_train.shape)
        for slot in recorded or {}:  # of the other trains too: their masks may not be what they were then
            actions[slot] = done_then[slot]
        return actions

    def _after_step(self, playing: list[int], actions: npt.NDArray[np.int64], over: npt.NDArray[np.bool_]) -> None:
        """Books rewards, departures, arrivals and deadlocks."""
        departed, arrived, stuck = self.departed.copy(), self.arrived.copy(), self.deadlocked.copy()
        remaining_before = self._remaining.copy()
        for slot in playing:
            episode = self._episode(slot)
            state = episode.simulator.state
            n_trains = state.n_trains
            episode.n_steps += 1
            arrived[slot, :n_trains] = state.dynamic[STATE] == DONE
            departed[slot, :n_trains] |= state.dynamic[ROW] >= 0
            stuck[slot, :n_trains] |= deadlocked(state)
            if self._learning is not None:
                self._remaining[slot, :n_trains] = remaining_travel_time(state)
        departed |= arrived
        step = StepOfTrains(
            self._rewards,
            remaining_before,
            self._remaining,
            newly_departed=departed & ~self.departed,
            newly_arrived=arrived & ~self.arrived,
            newly_deadlocked=stuck & ~self.deadlocked,
            actions=actions,
            episode_over=over[:, np.newaxis],
            max_episode_steps=self._max_episode_steps,
        )
        self.departed, self.arrived, self.deadlocked = departed, arrived, stuck
        self._train_rewards += self._rewards
        if self._learning is not None:
            self._record(step, {slot: self._episode(slot).simulator.state for slot in playing}, self._learning)

    def _record(self, step: StepOfTrains, states: Mapping[int, RailState], learning: Learning) -> None:
        """Takes down the rewards to learn from; hands on the rows of episodes that are over."""
        parts = parts_of_step(step, states, learning.own_reward)
        for slot in states:
            self._recorder.reward(slot, parts[slot])
        for slot in np.flatnonzero(step.episode_over).tolist():
            rows = self._recorder.finish(slot)
            if rows is not None:
                learning.sink.add(rows)

    def _observe(self, slot: int) -> None:
        state = self._episode(slot).simulator.state
        n_trains = state.n_trains
        mask, ended = self._action_mask[slot, :n_trains], self.deadlocked[slot] | self.arrived[slot]
        if ended[:n_trains].all():  # the rest of the episode needs no observations
            mask[:] = NOTHING_TO_DECIDE
            return
        asks = bool(self._is_demonstration[slot]) or (self._learning is not None and self._learning.asks_plan)
        self.observer.observe(state, self._observations[slot, :n_trains], mask, deciding_only=True, keep_plan=asks)
        if self._learning is not None and self.observer.rows is not None:
            self._recorder.see(slot, self.observer.rows)
        planned = self.observer.planned_actions(state, mask) if asks else None
        self._shown[slot, :n_trains] = NOT_SHOWN if planned is None else planned

    def _leave(self, slot: int) -> None:
        """Makes a slot free again, with nothing to decide."""
        self._episodes[slot] = None
        self._action_mask[slot] = NOTHING_TO_DECIDE
        self._rewards[slot] = 0.0
        self._shown[slot] = NOT_SHOWN

    def _result(self, slot: int) -> EpisodeResult:
        """What has come of an episode."""
        episode = self._episode(slot)
        state = episode.simulator.state
        n_trains = state.n_trains
        train_rewards = self._train_rewards[slot, :n_trains]
        return EpisodeResult.of_trains(
            train_rewards,
            state.max_episode_steps,
            clips_losses=episode.simulator.clips_losses,
            arrived=self.arrived[slot, :n_trains].copy(),
            departed=self.departed[slot, :n_trains],
            deadlocked=self.deadlocked[slot, :n_trains],
            n_steps=episode.n_steps,
            action_counts=self._action_counts[slot].copy(),
            policy_of_train=self._policy_of_train[slot, :n_trains].copy(),
            losses=episode.simulator.losses(train_rewards),
        )
