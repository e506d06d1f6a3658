"""What policies are ranked by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reinforcement_learning.multi_policy.objective import find_objective, reached_by
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.saving.checkpointing import load_policies, numbered_checkpoints
from reinforcement_learning.settings.extensions import ExtensionError
from tests.helpers.tiny_training import make_trainer

HERE = __name__


def result(score: float, completion: float, n_steps: int = 10) -> EpisodeResult:
    nobody = np.zeros(0, dtype=bool)
    return EpisodeResult(
        score, completion, 0.5, 0.25, n_steps, 2, 0, np.zeros(5, np.int64), nobody, np.zeros(0, np.int64), np.zeros(0)
    )


def second_train_arrives(result: EpisodeResult) -> float:
    return float(result.train_arrived[1])


calls = 0


def breaks_later(result: EpisodeResult) -> float:
    global calls
    calls += 1
    return 1.0 if calls == 1 else float("nan")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("score", [[-0.1, -0.2]]),
        ("completion", [[0.9, 0.8]]),
        ("deadlocked", [[-0.5, -0.5]]),
        ("never_departed", [[-0.25, -0.25]]),
        ("nb_steps", [[-10.0, -30.0]]),
    ],
)
def test_metrics_on_board(name: str, wanted: list[list[float]]) -> None:
    find_objective(name)
    assert reached_by([[result(-0.1, 0.9), result(-0.2, 0.8, 30)]], name).tolist() == wanted


def test_where_scores_tell_nothing_completion_counts() -> None:
    assert reached_by([[result(0.0, 0.5)], [result(0.0, 0.25)]], "score").tolist() == [[0.5], [0.25]]


def test_a_function_of_the_users_own() -> None:
    assert find_objective(f"{HERE}:second_train_arrives") is not None


def test_one_that_breaks_in_mid_training_costs_nothing_that_was_learned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_policies": 2, "with_pbt": True, "pbt_start_episodes": 0, "pbt_period_episodes": 2}
    trainer, _ = make_trainer(tmp_path, n_episodes=6, pbt_objective=f"{HERE}:breaks_later", **options)
    with pytest.raises(ExtensionError, match="gave nan, but must give a finite number") as error_info:
        trainer.run()
    assert error_info.value.saved
    (path,) = numbered_checkpoints(trainer.folders.checkpoints)
    assert len(load_policies(path)[0]) == 2  # whoever plays need not name it
