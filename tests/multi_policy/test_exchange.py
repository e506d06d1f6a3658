"""Population-based training: ranking, selection and perturbation for all scores, and what trainings do with them."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.exchange import (
    BOUNDS,
    CONTROL,
    KEPT,
    PERTURBED,
    REPLACED,
    Reached,
    choose_fates,
    perturbed,
    ranking,
)
from reinforcement_learning.multi_policy.lineage import changed, draw_lineage, founders
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import MemorySink, make_trainer
from tests.helpers.trainings import assert_equals_uninterrupted, assert_same, run, state_of

SCORES = st.lists(st.floats(-1, 0), min_size=2, max_size=12)
DEFAULTS = Hyperparameters.of(TrainingConfig())


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def reached(scores: list[float], completion: float = 0.5) -> list[Reached]:
    """What policies with these scores have reached, all with the same completion."""
    return [Reached(score, completion) for score in scores]


def test_ranking_by_hand() -> None:
    assert ranking(reached([-0.3, -0.1, -0.5, -0.1])) == [1, 3, 0, 2]


def test_equal_scores_are_told_apart_by_completion() -> None:
    """Levels without latest arrivals give every policy the score 0."""
    of_each = [Reached(0.0, completion) for completion in (0.2, 0.9, 0.5, 0.1)]
    assert ranking(of_each) == [1, 2, 0, 3]
    fates = choose_fates(of_each, 0.25, 0.5, random(0))
    assert [fate.kind for fate in fates] == [KEPT, KEPT, PERTURBED, REPLACED]
    assert choose_fates(of_each, 0.25, 0.81, random(0))[3].kind == PERTURBED


def test_fates_by_hand() -> None:
    fates = choose_fates(reached([-0.3, -0.2, -0.4, -0.5]), 0.25, 0.01, random(0))
    assert [fate.kind for fate in fates] == [KEPT, KEPT, PERTURBED, REPLACED]  # policy 0 is the control
    assert [fate.source for fate in fates] == [0, 1, 2, 1]


@given(scores=SCORES, share=st.floats(0.01, 0.5), min_gap=st.floats(0, 0.5), seed=st.integers(0, 99))
def test_only_the_worst_are_replaced_and_only_by_clearly_better_ones(
    scores: list[float], share: float, min_gap: float, seed: int
) -> None:
    fates = choose_fates(reached(scores), share, min_gap, random(seed))
    n = max(1, int(share * len(scores)))
    order = ranking(reached(scores))
    for policy, fate in enumerate(fates):
        if fate.kind == REPLACED:
            assert policy in order[-n:]
            assert fate.source in order[:n]
            assert scores[fate.source] - scores[policy] >= min_gap
            assert fates[fate.source].kind == KEPT
        else:
            assert fate.source == policy
    assert all(fates[policy].kind == KEPT for policy in order[:n])
    assert fates[CONTROL].kind != PERTURBED


def test_gaps_are_absolute() -> None:
    """-0.02 is a tenth of -0.2, and yet no gap of 0.25."""
    assert [fate.kind for fate in choose_fates(reached([-0.02, -0.2]), 0.5, 0.25, random(0))] == [KEPT, PERTURBED]
    assert [fate.kind for fate in choose_fates(reached([-0.02, -0.2]), 0.5, 0.15, random(0))] == [KEPT, REPLACED]


@given(seed=st.integers(0, 10_000), rounds=st.integers(1, 60), with_gamma=st.booleans())
def test_perturbed_values_stay_within_their_bounds(seed: int, rounds: int, with_gamma: bool) -> None:
    values, source = DEFAULTS, random(seed)
    for _ in range(rounds):
        values = perturbed(values, source, with_gamma=with_gamma)
    for name, (low, high) in BOUNDS.items():
        assert low <= getattr(values, name) <= high
    assert isinstance(values.n_step, int)
    assert (values.gamma == DEFAULTS.gamma) or with_gamma


def test_one_perturbation() -> None:
    values = perturbed(DEFAULTS, random(1), with_gamma=True)
    for name in ("learning_rate", "tau", "epsilon_scale", "shaping", "arrival_reward", "deadlock_penalty"):
        ratio = getattr(values, name) / getattr(DEFAULTS, name)
        assert min(abs(ratio - factor) for factor in (0.8, 1.25)) < 1e-9
    assert abs(values.n_step - DEFAULTS.n_step) == 1
    horizon = (1 - values.gamma) / (1 - DEFAULTS.gamma)
    assert min(abs(horizon - factor) for factor in (0.8, 1.25)) < 1e-6


def test_what_is_off_stays_off() -> None:
    off = dataclasses.replace(DEFAULTS, shaping=0.0, deadlock_penalty=0.0)
    values = perturbed(off, random(0), with_gamma=False)
    assert (values.shaping, values.deadlock_penalty) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_policies": 1}, "at least 2"),
        ({"learning_rate": 0.5}, "--learning_rate is 0.5.*1e-05 to 0.01"),
        ({"n_step": 30}, "--n_step is 30.* from 1 to 10"),
        ({"gamma": 0.5, "pbt_gamma": True}, "--gamma is 0.5"),
    ],
)
def test_searches_that_cannot_begin_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_mapping(TrainingConfig(**{"num_policies": 4, "with_pbt": True, **options}))


def test_values_out_of_bounds_are_nobody_s_business_without_a_search() -> None:
    make_mapping(TrainingConfig(num_policies=4, learning_rate=0.5, n_step=30))
    make_mapping(TrainingConfig(num_policies=4, with_pbt=True, gamma=0.5))


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "training_env_config": "Test_0",
        "num_envs": 3,
        "num_policies": 4,
        "n_episodes": 12,
        "checkpoint_interval": 12,
        "with_pbt": True,
        "pbt_period_episodes": 4,
        "pbt_min_gap": 0.0,
        "partner_snapshot_prob": 0.3,
        "partner_snapshot_every": 2,
        "eps_decay": 0.8,
        "seed": 4,
        "save_replay_buffer": True,
    }

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    def test_exchanges_come_at_their_period_and_are_logged(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = uninterrupted
        episodes = [exchange["episode"] for exchange in trainer.population.exchanges]
        assert [episode // 4 for episode in episodes] == [1, 2]  # none at the end
        rows = {row["episode"]: row for row in sink.rows if "policy_03/pbt/learning_rate" in row}
        assert list(rows) == episodes
        for exchange in trainer.population.exchanges:
            row = rows[exchange["episode"]]
            assert [row[f"policy_{p:02d}/pbt/source"] for p in range(4)] == exchange["sources"]
            assert REPLACED in exchange["kinds"]
            for p, values in enumerate(exchange["hyperparameters"]):
                assert row[f"policy_{p:02d}/pbt/tau"] == values["tau"]
        assert any("takes over from policy" in text for text in sink.messages)

    def test_hyperparameters_take_effect_except_for_the_control(
        self, uninterrupted: tuple[Trainer, MemorySink]
    ) -> None:
        learners = uninterrupted[0].population.learners
        assert learners[CONTROL].hyperparameters == Hyperparameters.of(uninterrupted[0].config)
        assert len({learner.hyperparameters for learner in learners}) > 1
        for learner in learners:
            assert learner.policy.learning_rate == learner.hyperparameters.learning_rate
            assert learner.policy.tau == learner.hyperparameters.tau

    # before the first exchange, in the evaluation for it, after it, after the second one
    @pytest.mark.parametrize("questions", [20, 75, 200, 800])
    def test_resumed_equals_uninterrupted_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)

    def test_take_over_copies_what_was_learned_and_shares_nothing(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, **self.OPTIONS | {"n_episodes": 3, "with_pbt": False})
        first, second = (learner.policy for learner in trainer.population.learners[:2])
        assert first.learning_steps > 0
        exploration = second.exploration.bit_generator.state
        second.take_over(first)
        for name in ("q_network", "target_network", "average_network", "optimizer", "learning_steps"):
            assert_same(second.state_dict()[name], first.state_dict()[name])
        assert second.exploration.bit_generator.state == exploration
        before = state_of(trainer)["policies"][1]
        buffer = trainer.population.learners[0].buffer
        first.learn(buffer.sample(16))
        assert_same(trainer.population.learners[1].state_dict(), before)

    def test_past_selves_drive_and_nobody_learns_from_them(self, tmp_path: Path) -> None:
        sink_rows: list[int] = []
        trainer, _ = make_trainer(tmp_path, **self.OPTIONS | {"with_pbt": False})
        add = trainer.population.add

        def watched(transitions: Any) -> None:
            sink_rows.extend(transitions.policy_of_train.tolist())
            add(transitions)

        trainer.population.add = watched  # type: ignore[method-assign]
        trainer.run()
        policy_of_train = np.array(sink_rows)
        assert (policy_of_train >= 4).any()
        assert policy_of_train.max() < len(trainer.population.policies) == 4 + 4 * 4
        counted = [int(np.count_nonzero(policy_of_train == p)) for p in range(4)]
        assert [learner.buffer.n_added for learner in trainer.population.learners] == counted


def test_past_selves_drive_their_share() -> None:
    from reinforcement_learning.multi_policy.past_selves import PastSelves

    past = PastSelves(0.25, 100, seed=1)
    policy_of_train = np.arange(1000) % 3
    assert past.replace_some(0, policy_of_train, 3) is policy_of_train  # there is none yet
    past.policies = [None] * 6  # type: ignore[list-item]
    replaced = past.replace_some(7, policy_of_train, 3)
    older = replaced >= 3
    assert older.mean() == pytest.approx(0.25, abs=0.07)  # five standard deviations
    assert (replaced % 3 == policy_of_train).all()  # an older self of the same policy
    assert set(replaced[older] // 3) == {1, 2}
    assert np.array_equal(past.replace_some(7, policy_of_train, 3), replaced)


class TestLineage:
    FIRST: ClassVar[dict[str, float]] = {"tau": 0.01, "n_step": 3, "gamma": 0.99}
    EXCHANGES: ClassVar[list[dict[str, Any]]] = [
        {
            "episode": 10,
            "scores": [-0.3, -0.5, -0.2],
            "kinds": [KEPT, REPLACED, KEPT],
            "sources": [0, 2, 2],
            "hyperparameters": [FIRST, {"tau": 0.0125, "n_step": 4, "gamma": 0.99}, FIRST],
        },
        {
            "episode": 20,
            "scores": [-0.4, -0.1, -0.2],
            "kinds": [REPLACED, KEPT, PERTURBED],
            "sources": [1, 1, 2],
            "hyperparameters": [FIRST, {"tau": 0.0125, "n_step": 4, "gamma": 0.99}, FIRST | {"tau": 0.008}],
        },
    ]

    def test_founders(self) -> None:
        assert founders(self.EXCHANGES, 3) == [[0, 1, 2], [0, 2, 2], [2, 2, 2]]

    def test_what_was_changed_has_a_chart_each_with_a_step_for_each_policy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert changed(self.EXCHANGES, self.FIRST) == {
            "tau": [[0.01] * 3, [0.01, 0.0125, 0.01], [0.01, 0.0125, 0.008]],
            "n_step": [[3] * 3, [3, 4, 3], [3, 4, 3]],
        }
        drawn: list[Any] = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
        draw_lineage(self.EXCHANGES, self.FIRST, 30, tmp_path / "lineage.png", "three policies")
        _, tau, n_step = drawn[0].axes
        assert [axes.get_title(loc="left") for axes in (tau, n_step)] == ["tau", "n_step"]
        steps = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in reversed(tau.get_lines())]
        assert steps == [
            ([0, 10, 20, 30], [0.01] * 4),
            ([0, 10, 20, 30], [0.01, 0.0125, 0.0125, 0.0125]),
            ([0, 10, 20, 30], [0.01, 0.01, 0.008, 0.008]),
        ]

    def test_exchanges_that_change_no_hyper_parameter_are_drawn(self, tmp_path: Path) -> None:
        exchanges = [exchange | {"hyperparameters": [self.FIRST] * 3} for exchange in self.EXCHANGES]
        draw_lineage(exchanges, self.FIRST, 30, tmp_path / "lineage.png", "three policies")
        assert (tmp_path / "lineage.png").stat().st_size > 1000

    def test_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "lineage.png"
        draw_lineage(self.EXCHANGES, self.FIRST, 30, path, "three policies")
        with Image.open(path) as image:
            assert image.width > 500
            assert len(image.convert("RGB").getcolors(100_000)) > 20
