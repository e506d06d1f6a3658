"""Flatland's remote evaluator, as a submission meets it: environments to play come over Redis, one after the other.

flatland-rl's own client waits for ever where nobody answers. This one notices that the evaluator is gone, in the
middle of an episode too: it counts the commands that nobody has taken yet, and looks who is connected to Redis.

Clients are told apart by their names in Redis, which go when they do, even by kill -9: one evaluation has one client.

An evaluator that gives up waiting puts a word about it into a list of errors, and goes on waiting. That word may come
too late to be found before the next command is sent; and a command that arrives at that very moment is lost.
"""

import os
import time
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import redis
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import DefaultRewards, Rewards
from flatland.evaluators.client import FLATLAND_RL_SERVICE_ID, FlatlandRemoteClient, TimeoutException
from flatland.evaluators.messages import FLATLAND_RL

from utils.levels.flatland_workarounds import clear_flatland_caches, garbage_collection_paused, quiet_generation
from utils.levels.level_snapshot import NoObservations
from utils.simulator.simulator import FlatlandSimulator

# Seconds without a sign of the evaluator: while nobody is connected to Redis who could be it, and in any case.
_PATIENCE_ALONE = 10.0
_PATIENCE = 300.0
_THIS_PROCESS = uuid.uuid4().hex
_COMMANDS_OF_EVALUATORS = ("brpop", "rpush")
_SECONDS_UNTIL_NOTICED = 5  # at most, from when the evaluator takes a command
# What each request is answered with, and what the answer's payload holds.
_ANSWERS = {
    FLATLAND_RL.PING: (FLATLAND_RL.PONG, ()),
    FLATLAND_RL.ENV_CREATE: (FLATLAND_RL.ENV_CREATE_RESPONSE, ("observation", "info", "random_seed", "env_file_path")),
    FLATLAND_RL.ENV_SUBMIT: (FLATLAND_RL.ENV_SUBMIT_RESPONSE, ()),
}
_NOT_OVER = "CAN'T CREATE NEW ENV"  # flatland's evaluator ends with this error


class EvaluatorError(RuntimeError):
    """The evaluation cannot go on; the message is one sentence."""


class EpisodeTimedOut(Exception):
    """The evaluator has given up on the running episode, which counts as zero; the next one can be played."""


class _WatchfulRedis(redis.Redis):
    """A connection that gives up when commands are neither read nor answered.

    Attributes:
        found_errors: the evaluator had given up waiting before it took the command that was answered last.
    """

    found_errors = False

    def watch(self, commands: str, errors: str, wait: float) -> None:
        """Names the lists of commands and of errors; the first command may lie there for ``wait`` seconds.

        What a client that was killed has left there is removed: the evaluator would take it for what this one says.
        """
        self._commands, self._errors = commands, errors
        self._patience_alone = wait
        self._n_sent = 0
        self._n_read: int | None = None
        self._last_sign = time.monotonic()
        self._last_sent: tuple[Any, ...] = ()
        self.delete(commands, errors)

    def lpush(self, name: Any, *values: Any) -> Any:
        """Sends a command."""
        n_waiting = super().lpush(name, *values)
        self._n_sent += len(values)
        self._last_sent = values
        self._look_for_a_sign(n_waiting)
        return n_waiting

    def blpop(self, keys: Any, timeout: float | None = 0) -> Any:
        """Waits for an answer; sends the command again where it was lost."""
        n_errors: int | None = None  # since the command has left its list
        while (answer := super().blpop(keys, timeout=1)) is None:
            n_waiting = self.llen(self._commands)
            self._look_for_a_sign(n_waiting)
            if n_waiting == 0:
                n_errors_before, n_errors = n_errors, self.llen(self._errors)
                # The evaluator does one thing after the other: if it gives up waiting for a command when this one has
                # left the list and is not answered, it has never got it.
                if n_errors_before is not None and n_errors > n_errors_before:
                    self.lpush(self._commands, *self._last_sent)
                    n_errors = None
        self._last_sign = time.monotonic()
        self._patience_alone = _PATIENCE_ALONE  # it has been there: if it is not any more, it will not come back
        # what it said until now is about what was before; found later, it would be taken for the next environment's
        self.found_errors = self.delete(self._errors) > 0
        return answer

    def _look_for_a_sign(self, n_waiting: int) -> None:
        n_read, now = self._n_sent - n_waiting, time.monotonic()
        if self._n_read is None or n_read > self._n_read:
            self._n_read, self._last_sign = n_read, now
        silent = now - self._last_sign
        if silent > _PATIENCE or (silent > self._patience_alone and not self._is_evaluator_there(n_waiting, silent)):
            raise EvaluatorError(f"no evaluator has answered for {silent:.0f} seconds; is flatland-evaluator running?")

    def _is_evaluator_there(self, n_waiting: int, silent: float) -> bool:
        """Whether a client is connected that could be it: others may be, and may have nothing to do with this.

        It has asked for commands, and not longer ago than its last sign; if it waited now, it would get those waiting.
        """
        return any(
            client["cmd"] in _COMMANDS_OF_EVALUATORS
            and int(client["idle"]) <= silent + _SECONDS_UNTIL_NOTICED
            and not (n_waiting and "b" in client["flags"])  # blocked
            for client in self.others()
        )

    def others(self) -> list[dict[str, str]]:
        """Whoever else is connected to this Redis."""
        own = str(self.client_id())
        return [client for client in self.client_list(_type="normal") if client["id"] != own]


class _Client(FlatlandRemoteClient):
    """flatland-rl's client with a connection that does not wait for ever, and errors in one sentence."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._watchful: _WatchfulRedis | None = None
        super().__init__(flatland_rl_service_id=os.getenv("AICROWD_SUBMISSION_ID", FLATLAND_RL_SERVICE_ID))

    def get_redis_connection(self) -> redis.Redis:
        """What all requests go through; the first call comes from the constructor of flatland-rl's client."""
        if self._watchful is None:
            names = client_names(self.service_id)
            self.redis_pool.connection_kwargs.update(socket_timeout=30, client_name=names + _THIS_PROCESS)
            watchful = _WatchfulRedis(connection_pool=self.redis_pool)
            same = [other for other in watchful.others() if other["name"].startswith(names)]
            # of two that start at the same time the first stays
            own = watchful.client_id()
            if any(not other["name"].endswith(_THIS_PROCESS) and int(other["id"]) < own for other in same):
                raise EvaluatorError(
                    f"another run.py plays the evaluation {self.service_id!r} already; end it, or give this one and "
                    "its evaluator an AICROWD_SUBMISSION_ID of their own."
                )
            watchful.watch(self.command_channel, self.error_channel, self._wait)
            self._watchful = watchful
        return self._watchful

    @property
    def found_errors(self) -> bool:
        """Whether the evaluator had given up waiting before it took the last command."""
        return self._watchful is not None and self._watchful.found_errors

    def _remote_request(self, _request: dict[str, Any], blocking: bool = True) -> Any:
        where = f"Redis at {self.remote_host}:{self.remote_port}"
        try:
            answer = super()._remote_request(_request, blocking)
        except (EvaluatorError, TimeoutException):
            raise
        except redis.ResponseError as error:
            raise EvaluatorError(f"{where} refuses a command ({_one_line(error).rstrip('.')}).") from error
        except redis.RedisError as error:
            raise EvaluatorError(
                f"there is no connection to {where} ({_one_line(error).rstrip('.')}); is redis-server running?"
            ) from error
        except Exception as error:
            if _NOT_OVER in str(error):
                raise EvaluatorError(
                    "the evaluator is in an environment that another run.py has left before its end; start it again."
                ) from error
            raise EvaluatorError(f"the evaluator answers with an error: {_one_line(error)}") from error
        if blocking:
            _check_answer(_request["type"], answer)
        return answer


class RemoteSimulator(FlatlandSimulator):
    """The environment that the evaluator has set up, here and there.

    Raises:
        ValueError: see :meth:`~utils.simulator.rail_state.RailState.from_env`.
    """

    def __init__(self, client: FlatlandRemoteClient) -> None:
        self._client = client
        super().__init__(client.env)

    def _step_env(self, actions: dict[int, int]) -> tuple[dict[int, float], bool]:
        return _step(self._client, actions)


class RemoteEvaluation:
    """An evaluation by flatland-rl's evaluator, from the first environment to the submission.

    Args:
        wait: seconds in which Redis and the evaluator must have come up.
        rewards: what is rewarded here; the evaluator has its own.

    Attributes:
        timed_out_at_the_end: the evaluator has given up on the environment before the running one, after its last step
            or before: it counts as zero.

    Raises:
        EvaluatorError: they have not.
    """

    timed_out_at_the_end = False

    def __init__(self, wait: float, rewards: type[Rewards] = DefaultRewards) -> None:
        self._rewards = rewards
        give_up = time.monotonic() + wait
        while True:
            try:
                self.client = _Client(wait)
                return
            except TimeoutException:  # meant for an earlier client
                continue
            except EvaluatorError as error:
                is_no_connection = isinstance(error.__cause__, redis.ConnectionError | redis.TimeoutError)
                if time.monotonic() > give_up or not is_no_connection:
                    raise
            time.sleep(0.5)

    def next_level(self) -> RailEnv | None:
        """The next environment to play, to its end or to its :class:`EpisodeTimedOut`; None where there are no more.

        Raises:
            EvaluatorError: the evaluation cannot go on.
        """
        clear_flatland_caches()
        self.timed_out_at_the_end = False
        while True:
            try:
                with quiet_generation(), garbage_collection_paused():
                    observations, _ = self.client.env_create(NoObservations())
            except TimeoutException:  # the request was not sent
                self.timed_out_at_the_end = True
                continue
            except EvaluatorError:
                raise
            except Exception as error:  # a file that is missing or damaged
                raise EvaluatorError(f"the environment cannot be loaded: {_one_line(error)}") from error
            self.timed_out_at_the_end |= self.client.found_errors
            if observations is False:
                return None
            self.client.env.rewards = self._rewards()
            return self.client.env

    @property
    def level_path(self) -> str:
        """The file of the running environment, below the folder of tests."""
        path: str = self.client.current_env_path
        return path.removeprefix(self.client.test_envs_root).lstrip("/")

    def simulator(self) -> RemoteSimulator:
        """The running environment as a simulator."""
        return RemoteSimulator(self.client)

    def sit_out(self) -> None:
        """Plays the running environment to its end without an action."""
        with suppress(EpisodeTimedOut):  # it scores nothing in either case
            while not _step(self.client, {})[1]:
                pass

    def submit(self) -> dict[str, Any]:
        """Ends the evaluation; returns what the evaluator says. Blocks for ever where AICROWD_BLOCKING_SUBMIT is set.

        Raises:
            EvaluatorError: there is no answer.
        """
        while True:
            try:
                result: dict[str, Any] = self.client.submit()
                return result
            except TimeoutException:
                continue


def _step(client: FlatlandRemoteClient, actions: dict[int, int]) -> tuple[dict[int, float], bool]:
    try:
        _, rewards, dones, _ = client.env_step(actions)
    except TimeoutException as error:
        raise EpisodeTimedOut from error
    return rewards, dones["__all__"]


def client_names(evaluation: str) -> str:
    """What the names that clients of an evaluation have in Redis begin with; spaces are not allowed there."""
    return f"run.py::{quote(evaluation)}::"


def _check_answer(request: str, answer: dict[str, Any]) -> None:
    kind, fields = _ANSWERS[request]
    payload = answer.get("payload")
    if answer["type"] != kind or not isinstance(payload, dict) or not set(fields) <= set(payload):
        raise EvaluatorError(
            f"the evaluator answers {request} with {_one_line(answer)[:200]}, and not with {kind}"
            + (f" and {', '.join(fields)}." if fields else ".")
        )


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
