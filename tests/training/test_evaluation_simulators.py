"""Evaluations give the same on the compiled simulator as on flatland-rl itself; the last one plays on the latter."""

import dataclasses
from pathlib import Path

import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rewards import ECML2026Rewards, Rewards

from reinforcement_learning.learning.learner import make_policy
from reinforcement_learning.playing.episode_result import EpisodeResult, evaluation_metrics
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.features import training_observer
from reinforcement_learning.training import trainer as trainer_module
from tests.helpers.tiny_training import make_trainer
from utils.levels.env_configs import ENV_CONFIGS, Environment, level_of, resolve_env_config
from utils.levels.playable_levels import EvaluationLevels
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.kept_plans import QUICK, QUICKEST, PlanAhead
from utils.planning.level_plan import LevelPlan
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.simulator import FlatlandSimulator


def environment(name: str, folder: Path) -> Environment:
    """One by its name, or the kind "saved" or "folder"."""
    if name not in ("saved", "folder"):
        return resolve_env_config(name)
    for saved, seed in (("Test_0", 5), ("Benchmarks_Test_00", 6)):
        RailEnvPersister.save(make_rail_env(ENV_CONFIGS[saved], seed), folder / f"{saved}.pkl")
    return resolve_env_config(str(folder / "Test_0.pkl" if name == "saved" else folder))


def played(levels: EvaluationLevels, *, on_flatland: bool, features: str = "tree_routes") -> list[EpisodeResult]:
    """What a new network does on them."""
    observer = training_observer(TrainingConfig(), get_feature_set(features), evaluates=True)
    policy = make_policy(TrainingConfig(hidden_size=16), observer.feature_set, 0, "cpu").evaluation_policy()
    simulators = levels.on_flatland() if on_flatland else levels.simulators()
    return play_levels(simulators, observer, policy)


def as_compared(result: EpisodeResult) -> dict[str, object]:
    """All of a result but what only flatland-rl tells: by which causes score was lost."""
    values = dataclasses.asdict(result) | {"losses": {}}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}


class OwnRewards(ECML2026Rewards):
    """None that are compiled."""


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("Test_0", None),  # malfunctions
        ("Benchmarks_Test_00", None),  # four speeds
        ("saved", None),
        ("folder", None),  # levels that differ in their number of trains
        ("ECML_small", None),  # stops, departure delays
        ("ECML_small", ECML2026Rewards),
        ("Test_1", ECML2026Rewards),
    ],
)
def test_results_are_the_same_to_the_last_bit(name: str, rewards: type[Rewards] | None, tmp_path: Path) -> None:
    config = environment(name, tmp_path)
    if rewards is not None:
        config = dataclasses.replace(level_of(config, 0), rewards=rewards)
    levels = EvaluationLevels(config, 3, 4)
    flatlands = played(levels, on_flatland=True)
    first, second = (played(levels, on_flatland=False) for _ in range(2))  # the second time from what is kept
    assert {type(simulator) for simulator in levels.simulators()} == {CompiledSimulator}
    assert len({result.score for result in first}) > 1
    for ours in (first, second):
        assert [as_compared(result) for result in ours] == [as_compared(result) for result in flatlands]
        assert evaluation_metrics(ours) == evaluation_metrics(flatlands)


def test_plans_that_are_kept_with_the_levels_change_nothing() -> None:
    plan = training_observer(TrainingConfig(), get_feature_set("tree_plan"), evaluates=True).plan_ahead
    assert plan == PlanAhead(QUICK)
    levels = EvaluationLevels(ENV_CONFIGS["Test_0"], 3, 4, plan=plan)
    wanted = [as_compared(result) for result in played(levels, on_flatland=True, features="tree_plan")]
    for _ in range(2):
        assert [as_compared(result) for result in played(levels, on_flatland=False, features="tree_plan")] == wanted
    assert all(simulator.state.plan_ahead for simulator in levels.simulators())


def test_less_is_searched_in_what_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: set[int] = set()
    monkeypatch.setattr(LevelPlan, "play_rounds", lambda plan, n_rounds: searched.add(n_rounds))
    trainer, _ = make_trainer(tmp_path, feature_set="tree_plan", n_episodes=20, eps_start=1.0, eps_decay=1.0)
    n_trains = trainer.config.training_env.n_agents
    while trainer.episode < 20:
        trainer.play_and_learn()
    assert searched == {n_trains * rounds for rounds in QUICKEST}
    searched.clear()
    trainer.evaluate()
    assert searched == {n_trains * rounds for rounds in QUICK}


def test_flatland_plays_what_the_compiled_simulator_cannot() -> None:
    config = dataclasses.replace(ENV_CONFIGS["Tiny"], rewards=OwnRewards)
    levels = EvaluationLevels(config, 0, 1)
    for _ in range(2):
        (simulator,) = levels.simulators()
        assert isinstance(simulator, FlatlandSimulator)
        assert type(simulator.env.rewards) is OwnRewards


@pytest.mark.parametrize("simulator", ["compiled", "flatland"])
def test_last_evaluation_plays_on_flatland(simulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played_on: list[set[type]] = []
    score = trainer_module.score_population

    def noting(population, levels, *arguments, **options):  # type: ignore[no-untyped-def]
        played_on.append({type(level) for level in levels()})
        return score(population, levels, *arguments, **options)

    monkeypatch.setattr(trainer_module, "score_population", noting)
    trainer, _ = make_trainer(tmp_path, n_episodes=6, simulator=simulator)
    trainer.run()
    on_the_way = CompiledSimulator if simulator == "compiled" else FlatlandSimulator
    assert played_on == [{on_the_way}, {FlatlandSimulator}]
