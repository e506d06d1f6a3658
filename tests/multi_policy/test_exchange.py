"""Population-based training: ranking, selection and perturbation for all scores, and what trainings do with them."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.exchange import (
    CONTROL,
    KEPT,
    PERTURBED,
    REPLACED,
    Fate,
    choose_fates,
    first_hyperparameters,
    is_better,
    perturbed,
    searched,
    within,
)
from reinforcement_learning.multi_policy.lineage import changed, draw_lineage, founders
from reinforcement_learning.multi_policy.modes import check_mapping, make_mapping
from reinforcement_learning.saving.checkpoint_content import check_content
from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.run_config import make_config
from reinforcement_learning.training.population_scores import PopulationScores
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.rows import PLAIN
from tests.helpers.tiny_training import MemorySink, make_trainer, stop_after
from tests.helpers.trainings import assert_equals_uninterrupted, assert_same, run, state_of

SCORES = st.lists(st.floats(-1, 0), min_size=2, max_size=12)
DEFAULTS = Hyperparameters.of(TrainingConfig(team_reward=0.1))
EVERYTHING = searched(TrainingConfig(team_reward=0.1, pbt_gamma=True))


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def on_one_level(scores: list[float]) -> np.ndarray:
    """What policies with these scores have reached on a single level."""
    return np.array(scores)[:, np.newaxis]


def fates_of(scores: list[float], share: float, min_gap: float, seed: int = 0) -> list[Fate]:
    return choose_fates(on_one_level(scores), share, min_gap, 0.0, random(seed))


def test_the_best_by_hand() -> None:
    def best(*results: tuple[float, float]) -> int:
        alone = [[SimpleNamespace(score=score, completion=completion)] for score, completion in results]
        return PopulationScores([], alone).best  # type: ignore[arg-type]

    assert best((-0.3, 0.5), (-0.1, 0.5), (-0.5, 0.5), (-0.1, 0.5)) == 1
    # levels without latest arrivals give every policy the score 0
    assert best((0.0, 0.2), (0.0, 0.9), (0.0, 0.5)) == 1


def test_fates_by_hand() -> None:
    fates = fates_of([-0.3, -0.2, -0.4, -0.5], 0.25, 0.01)
    assert [fate.kind for fate in fates] == [KEPT, KEPT, PERTURBED, REPLACED]  # policy 0 is the control
    assert [fate.source for fate in fates] == [0, 1, 2, 1]


@given(scores=SCORES, share=st.floats(0.01, 0.5), min_gap=st.floats(0, 0.5), seed=st.integers(0, 99))
def test_only_the_worst_are_replaced_and_only_by_clearly_better_ones(
    scores: list[float], share: float, min_gap: float, seed: int
) -> None:
    fates = fates_of(scores, share, min_gap, seed)
    n = max(1, int(share * len(scores)))
    order = sorted(range(len(scores)), key=lambda policy: -scores[policy])
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
    assert [fate.kind for fate in fates_of([-0.02, -0.2], 0.5, 0.25)] == [KEPT, PERTURBED]
    assert [fate.kind for fate in fates_of([-0.02, -0.2], 0.5, 0.15)] == [KEPT, REPLACED]


def test_what_counts_is_the_difference_level_by_level() -> None:
    levels = np.linspace(-0.8, -0.1, 25)  # they differ far more than the policies do
    always_better, now_and_then = levels + 0.02 + 0.01 * np.cos(np.arange(25)), levels + 0.02
    now_and_then[::2] += 0.25
    now_and_then[1::2] -= 0.25
    for better, significant in ((always_better, True), (now_and_then, False)):
        assert (better - levels).mean() > 0.01
        assert is_better(better, levels, 0.01, 2.0) == significant
        assert is_better(better, levels, 0.01, 0.0)
        assert not is_better(better, levels, 0.05, 0.0)
        assert not is_better(levels, better, 0.0, 0.0)
        kinds = [fate.kind for fate in choose_fates(np.array([better, levels]), 0.5, 0.01, 2.0, random(0))]
        assert kinds == [KEPT, REPLACED if significant else PERTURBED]
    assert is_better(levels + 0.02, levels, 0.01, 2.0)  # the same everywhere
    assert not is_better(levels, levels, 0.0, 0.0)
    assert not is_better(levels[:1] + 0.02, levels[:1], 0.01, 2.0)  # the error of a single level is not known


@given(seed=st.integers(0, 10_000), rounds=st.integers(1, 60), probability=st.sampled_from([0.15, 1.0]))
def test_perturbed_values_stay_within_their_bounds(seed: int, rounds: int, probability: float) -> None:
    values, source = DEFAULTS, random(seed)
    for _ in range(rounds):
        values = perturbed(values, DEFAULTS, EVERYTHING, source, probability)
    for name, (low, high) in EVERYTHING.items():
        assert low <= getattr(values, name) <= high
        assert type(getattr(values, name)) is type(getattr(DEFAULTS, name))  # plain numbers, for checkpoints


def test_everything_that_is_searched_changes_by_a_tenth_to_a_half_up_or_down() -> None:
    assert set(EVERYTHING) == {field.name for field in dataclasses.fields(Hyperparameters)}
    directions: dict[str, set[bool]] = {name: set() for name in EVERYTHING}
    for seed in range(20):
        values = perturbed(DEFAULTS, DEFAULTS, EVERYTHING, random(seed), 1.0)
        for name in EVERYTHING:
            new, old = getattr(values, name), getattr(DEFAULTS, name)
            ratio = (1 - new) / (1 - old) if name == "gamma" else new / old
            directions[name].add(ratio > 1.0)
            if name in ("n_step", "advantage_learning"):  # 3 has few neighbours, 0.7 is near its bound
                assert ratio != 1.0
            else:
                assert 1.099 < max(ratio, 1.0 / ratio) < 1.501
    assert all(both == {True, False} for both in directions.values())


def test_few_change_and_hardly_any_goes_back_to_its_default() -> None:
    other = perturbed(DEFAULTS, DEFAULTS, EVERYTHING, random(0), 1.0)
    source, n_changed, n_back, n_rounds = random(1), 0, 0, 2_000
    for _ in range(n_rounds):
        values = perturbed(other, DEFAULTS, EVERYTHING, source)
        n_changed += sum(getattr(values, name) != getattr(other, name) for name in EVERYTHING)
        n_back += values.tau == DEFAULTS.tau
    # five standard deviations
    assert n_changed / (n_rounds * len(EVERYTHING)) == pytest.approx(0.15, abs=0.012)
    assert 0 < n_back < 15


def test_what_is_off_stays_off() -> None:
    off = dataclasses.replace(DEFAULTS, shaping=0.0, deadlock_penalty=0.0, team_reward=0.0)
    values = perturbed(off, DEFAULTS, EVERYTHING, random(0), 1.0)
    assert (values.shaping, values.deadlock_penalty, values.team_reward) == (0.0, 0.0, 0.0)


def test_what_is_searched_depends_on_the_options() -> None:
    assert "gamma" not in searched(TrainingConfig())
    assert searched(TrainingConfig(batch_size=100))["batch_size"] == (50, 200)
    assert searched(TrainingConfig(batch_size=100, buffer_size=150, buffer_min_size=0))["batch_size"] == (50, 150)
    # the synchronous mode guarantees as many learning steps for each policy
    assert not {"batch_size", "update_every"} & set(searched(TrainingConfig(policy_mode="synchronous")))


def test_values_of_a_checkpoint_move_into_what_is_searched_now() -> None:
    assert within({}, DEFAULTS, EVERYTHING) == DEFAULTS
    stored = dataclasses.asdict(perturbed(DEFAULTS, DEFAULTS, EVERYTHING, random(0), 1.0))
    assert dataclasses.asdict(within(stored, DEFAULTS, EVERYTHING)) == stored
    found = within({"batch_size": 0, "n_step": 10**9, "tau": 3.0, "update_every": 100.5}, DEFAULTS, EVERYTHING)
    assert (found.batch_size, found.n_step, found.tau, found.update_every) == (64, 10, 0.1, 100)
    assert within({"shaping": 0.0}, dataclasses.replace(DEFAULTS, shaping=0.0), EVERYTHING).shaping == 0.0


def test_all_but_the_control_begin_with_changed_hyper_parameters() -> None:
    config = TrainingConfig(num_policies=4, with_pbt=True)
    control, *others = first_hyperparameters(config, random(0))
    assert control == Hyperparameters.of(config)
    assert len(set(others)) == 3
    for values in others:
        for name in searched(config):
            changes = name != "team_reward"  # which is off
            assert (getattr(values, name) != getattr(control, name)) == changes
    without = dataclasses.replace(config, with_pbt=False)
    assert first_hyperparameters(without, random(0)) == [control] * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_policies": 1}, "at least 2"),
        ({"learning_rate": 0.5}, "--learning_rate is 0.5.*1e-05 to 0.01"),
        ({"n_step": 30}, "--n_step is 30.* from 1 to 10"),
        ({"gamma": 0.5, "pbt_gamma": True}, "--gamma is 0.5"),
        ({"n_episodes": 1000}, "never exchange.* after 1000 episodes .*--n_episodes is 1000"),
        ({"n_evaluation_episodes": 1}, "--n_evaluation_episodes is 1; give at least 2, or --pbt_min_errors 0"),
        ({"pbt_objective": "punctuality"}, "--pbt_objective: there is no objective 'punctuality': give one of score, "),
        ({"pbt_objective": "builtins:repr"}, "the objective 'builtins:repr' gave 'Episode.*must give a finite number"),
        ({"pbt_objective": "builtins:len"}, "the objective 'builtins:len' failed"),
    ],
)
def test_searches_that_cannot_begin_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_mapping(TrainingConfig(**{"num_policies": 4, "with_pbt": True, **options}))


def test_values_out_of_bounds_are_nobody_s_business_without_a_search() -> None:
    check_mapping(TrainingConfig(num_policies=4, learning_rate=0.5, n_step=30))
    check_mapping(TrainingConfig(num_policies=4, with_pbt=True, gamma=0.5))


def test_checkpoints_of_earlier_versions_exchange_as_they_did_and_can_be_played() -> None:
    stored = {"num_policies": 4, "with_pbt": True, "n_episodes": 800, "advantage_learning": 0.99}
    config = make_config({}, stored)
    assert (config.pbt_start_episodes, config.pbt_min_errors) == (0, 0.0)
    assert make_mapping(config).n_policies == 4  # though a search could not begin there today
    assert make_config({"with_pbt": True}, stored | {"with_pbt": False}).pbt_start_episodes > 0


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "training_env_config": "Test_0",
        "num_envs": 3,
        "num_policies": 4,
        "n_episodes": 12,
        "checkpoint_interval": 12,
        "with_pbt": True,
        "pbt_start_episodes": 0,
        "pbt_period_episodes": 4,
        "pbt_min_gap": 0.0,
        "pbt_min_errors": 0.0,
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
        assert list(rows) == [0, *episodes]
        assert rows[0]["policy_03/pbt/tau"] == trainer.population.first_hyperparameters[3].tau != DEFAULTS.tau
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
            assert learner.policy.advantage_learning == learner.hyperparameters.advantage_learning

    def test_there_is_no_exchange_before_the_start(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, **self.OPTIONS | {"n_episodes": 14, "pbt_start_episodes": 9})
        assert [exchange["episode"] // 4 for exchange in trainer.population.exchanges] == [2, 3]
        assert trainer.population.exchanges[0]["episode"] >= 9

    def test_batches_and_their_number_are_those_of_each_policy(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, **self.OPTIONS | {"pbt_start_episodes": 11, "partner_snapshot_prob": 0.0})
        for learner, first in zip(trainer.population.learners, trainer.population.first_hyperparameters, strict=True):
            assert learner.replay_ratio == pytest.approx(first.batch_size / first.update_every, rel=0.1)

    def test_training_of_an_earlier_version_goes_on_with_what_it_had(self, tmp_path: Path) -> None:
        """It told fewer hyper-parameters, and all policies began with the same."""
        trainer, _ = run(tmp_path, **self.OPTIONS | {"stop_requested": stop_after(450)})
        path = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
        content = read_checkpoint(path)
        assert content["exchanges"]
        del content["first_hyperparameters"]
        new = ("batch_size", "update_every", "advantage_learning", "team_reward")
        for exchange in content["exchanges"]:
            del exchange["objective"]
            for name in new:
                for of_policy in exchange["hyperparameters"]:
                    del of_policy[name]
        for episode in content["unfinished"]:
            settings = episode["train_settings"]
            del settings["in_a_team"]
            names = ("n_step", "shaping", "arrival_reward", "deadlock_penalty")
            settings |= {name: torch.ones_like(settings["policy_of_train"]) for name in names}
        check_content(content, to_resume=True)
        resumed, _ = make_trainer(tmp_path, **self.OPTIONS)
        resumed.resume(path, content)
        found = resumed.population.learners[1].hyperparameters
        then = trainer.population.learners[1].hyperparameters
        given = Hyperparameters.of(resumed.config)
        assert found == dataclasses.replace(then, **{name: getattr(given, name) for name in new})
        assert resumed.population.first_hyperparameters == [given] * 4
        assert resumed.run()
        draw_lineage(
            resumed.population.exchanges, [dataclasses.asdict(given)] * 4, 12, tmp_path / "lineage.png", "resumed"
        )

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
        first.learn(buffer.sample(16, PLAIN, 1))
        assert_same(trainer.population.learners[1].state_dict(), before)

    def test_past_selves_drive_and_nobody_learns_from_them(self, tmp_path: Path) -> None:
        sink_rows: list[int] = []
        trainer, _ = make_trainer(tmp_path, **self.OPTIONS | {"with_pbt": False})
        add = trainer.population.add

        def watched(rows: Any) -> None:
            sink_rows.extend(rows.policy_of_train.tolist())
            add(rows)

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
        assert changed(self.EXCHANGES, [self.FIRST] * 3) == {
            "tau": [[0.01] * 3, [0.01, 0.0125, 0.01], [0.01, 0.0125, 0.008]],
            "n_step": [[3] * 3, [3, 4, 3], [3, 4, 3]],
        }
        drawn: list[Any] = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
        draw_lineage(self.EXCHANGES, [self.FIRST] * 3, 30, tmp_path / "lineage.png", "three policies")
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
        draw_lineage(exchanges, [self.FIRST] * 3, 30, tmp_path / "lineage.png", "three policies")
        assert (tmp_path / "lineage.png").stat().st_size > 1000

    def test_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "lineage.png"
        draw_lineage(self.EXCHANGES, [self.FIRST] * 3, 30, path, "three policies")
        with Image.open(path) as image:
            assert image.width > 500
            assert len(image.convert("RGB").getcolors(100_000)) > 20
