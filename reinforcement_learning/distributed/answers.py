"""Waits for the answers of Ray actors, and calls a function for each that has come."""

import re
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from reinforcement_learning.playing.experience import ExperienceError

_COLOURS = re.compile("\x1b\\[[0-9;]*m")


# Seconds that an actor may take for an answer, then it is taken for dead; the second once a stop was requested.
SECONDS_FOR_AN_ANSWER = 300.0
SECONDS_AFTER_A_STOP = 20.0
_SECONDS_BETWEEN_LOOKS = 0.1


class ActorsError(ExperienceError):
    """The actors of a training cannot go on; the message is one sentence."""


class RayEndedError(ActorsError):
    """Ray itself is gone, and nothing may be asked of it any more."""


class Answers:
    """Waits for many calls at a time; each has a function that takes its answer.

    Args:
        check: is called again and again; raises :class:`RayEndedError` where no answer can come any more.

    Attributes:
        while_waiting: is called again and again while :meth:`wait_for` waits.
    """

    def __init__(self, check: Callable[[], None], stop_requested: Callable[[], bool]) -> None:
        self.check, self.stop_requested = check, stop_requested
        self.while_waiting: Callable[[], None] = lambda: None
        # what takes the answer, and what is told where it is lost
        self._expected: dict[ray.ObjectRef, tuple[Callable[[Any], None], Callable[[Exception], None]]] = {}

    def expect(self, answer: "ray.ObjectRef", done: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
        """Has ``done`` called with the answer, once it is there, or ``failed`` where the actor or the answer is lost.

        What the actor's own code raises is raised by :meth:`take`.
        """
        self._expected[answer] = (done, failed)

    def take(self, seconds: float) -> bool:
        """Takes all answers that are there, and waits for the first; returns whether there was one.

        Raises:
            RayEndedError: see ``check``.
        """
        self.check()
        answers = list(self._expected)
        if not answers:
            time.sleep(seconds)
            return False
        # fetch_local: an answer that is large is left where it is
        ready, _ = ray.wait(answers, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(answers) > 1:
            ready, _ = ray.wait(answers, num_returns=len(answers), timeout=0, fetch_local=False)
        for answer in ready:
            done, failed = self._expected.pop(answer)
            try:
                value = value_of(answer)
            except RayError as error:
                self.check()
                failed(error)
            else:
                done(value)
        return bool(ready)

    def wait_for(self, answer: "ray.ObjectRef") -> Any:
        """The value of a call; takes all other answers that come meanwhile.

        Raises:
            RayError: the actor has ended, or does not answer in time.
            RayEndedError: see ``check``.
        """
        asked = time.monotonic()
        while not ray.wait([answer], timeout=_SECONDS_BETWEEN_LOOKS)[0]:
            self.take(0)
            self.while_waiting()
            patience = SECONDS_AFTER_A_STOP if self.stop_requested() else SECONDS_FOR_AN_ANSWER
            if time.monotonic() - asked > patience:
                raise ActorUnavailableError(f"no answer in {patience:.0f} seconds", None)
        self.check()
        return value_of(answer)


def value_of(answer: "ray.ObjectRef") -> Any:
    """The value of a call.

    Raises:
        RayError: the actor, or something that it needed, is lost.
        Exception: whatever the actor's own code has raised.
    """
    try:
        return ray.get(answer)
    except RayTaskError as error:
        # the cause is a RayError where something that the call needed was on a node that is lost
        raise error.cause from error


def reason_of(error: Exception) -> str:
    """What an error says, as part of a sentence; Ray's go on for many lines."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # where an actor could not be made, what was wrong stands at the end
    return lines[-1 if "creation task" in lines[0] else 0].rstrip(".")
