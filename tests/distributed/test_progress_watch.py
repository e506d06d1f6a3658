"""Who makes no progress for a minute is named, once."""

from reinforcement_learning.distributed.watch import SECONDS_WITHOUT_PROGRESS, ProgressWatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_names_each_once_until_it_goes_on() -> None:
    said: list[str] = []
    clock = Clock()
    watch = ProgressWatch(["the learner of policy 0", "the learner of policy 1"], said.append, clock)

    def check_after(seconds: float) -> list[str]:
        said.clear()
        clock.now += seconds
        watch.check(lambda index: f"{3 + index} rounds wait for it")
        return list(said)

    assert check_after(SECONDS_WITHOUT_PROGRESS - 1) == []
    watch.progress(0)
    assert check_after(1) == ["the learner of policy 1 has made no progress for 60 seconds: 4 rounds wait for it."]
    assert check_after(30) == []
    watch.progress(1)
    (said_of_first,) = check_after(40)
    assert said_of_first.startswith("the learner of policy 0 has made no progress for 71 seconds")
    (said_of_second,) = check_after(20)
    assert said_of_second.startswith("the learner of policy 1")
    assert check_after(1000) == []
