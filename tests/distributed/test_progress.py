"""A learner that makes no progress for a minute is named, once."""

from types import SimpleNamespace

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

from reinforcement_learning.distributed import remote_learner
from reinforcement_learning.distributed.remote_learner import SECONDS_WITHOUT_PROGRESS, RemoteLearner
from reinforcement_learning.learning.hosted_learner import LearnerReport
from utils.system.stopwatch import Stopwatch


def test_it_is_named_once_until_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = 100.0, list[str]()
    monkeypatch.setattr(remote_learner, "time", SimpleNamespace(monotonic=lambda: now))
    learner = object.__new__(RemoteLearner)  # one without an actor
    state = {"name": "policy 1", "is_ready": False, "waiting": 0, "lags": [], "losses": [], "_broadcast_at": 0}
    state |= {"_config": SimpleNamespace(broadcast_every=8), "_stopwatch": Stopwatch(), "_warn": said.append}
    vars(learner).update(state | {"_learned_at": now, "_has_warned": False})

    def said_after(seconds: float) -> list[str]:
        nonlocal now
        said.clear()
        now += seconds
        learner.warn_without_progress("nobody plays")
        return list(said)

    assert said_after(SECONDS_WITHOUT_PROGRESS - 1) == []
    assert said_after(1) == ["policy 1 has made no progress for 60 seconds: it has not started yet."]
    assert said_after(1000) == []
    learner.is_ready, learner.waiting = True, 4
    learner._learned(0, LearnerReport(seconds=2.0))
    assert learner._stopwatch.seconds["learn"] == 2.0
    assert said_after(SECONDS_WITHOUT_PROGRESS - 1) == []
    assert said_after(2) == ["policy 1 has made no progress for 61 seconds: 3 rounds wait for it."]
    learner._learned(0, LearnerReport())
    learner.waiting = 0
    assert said_after(60) == ["policy 1 has made no progress for 60 seconds: nobody plays."]
