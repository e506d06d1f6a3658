"""Features of the user's own: where they stand, what is refused, and what a training and its checkpoints make of it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from reinforcement_learning import multi_agent_training
from reinforcement_learning.learning.replay_buffer import ReplayBufferError
from reinforcement_learning.saving.checkpointing import (
    CheckpointError,
    load_policy,
    numbered_checkpoint,
    read_checkpoint,
    stored_feature_set,
    write_checkpoint,
)
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.features import check_features, feature_set_of
from reinforcement_learning.settings.named_code import NamedCode
from tests.helpers.own_code import Handles
from tests.helpers.tiny_training import SMALL, make_trainer
from tests.helpers.trainings import assert_equals_uninterrupted, resume, run
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import FEATURE_SETS, get_feature_set
from utils.observation.more_features import FeaturesError, checked_features
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState

OWN = "tests.helpers.own_code"


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    Handles.calls_left = math.inf


@pytest.fixture
def state() -> RailState:
    return RailState.from_env(make_rail_env(ENV_CONFIGS["Test_0"], 3))


def config_of(features: str, **options: Any) -> TrainingConfig:
    return TrainingConfig(**{**SMALL, "features": features, **options})


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_they_follow_those_of_the_feature_set_which_stay_as_they_are(name: str, state: RailState) -> None:
    without, features = get_feature_set(name), feature_set_of(config_of(f"{OWN}:Handles", feature_set=name))
    assert features.n_features == without.n_features + 2
    assert features.feature_names == (*without.feature_names, "handles.0", "handles.1")
    assert features.route_features == without.route_features
    assert features.label == f"{name} version 1 with handles version 2"
    observations, mask = Observer(features).observe(state)
    wanted, wanted_mask = Observer(without).observe(state)
    np.testing.assert_array_equal(observations[:, :-2], wanted)
    np.testing.assert_array_equal(mask, wanted_mask)
    np.testing.assert_allclose(observations[:, -2:], [[k / 10, 0.7] for k in range(5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "there is no set of features 'nothing': give package.module:callable"),
        ("no_such_module:X", "ModuleNotFoundError"),
        (f"{OWN}:not_made_at_all", "cannot be made .OSError: no file"),
        (f"{OWN}:Linear", "cannot be made .TypeError"),
        (f"{OWN}:NoCall", "makes a NoCall, but must make a callable"),
        (f"{OWN}:Nameless", "has name '', but it must be a text"),
        (f"{OWN}:NoVersion", "has version 1.5, but it must be a whole number"),
        (f"{OWN}:Empty", "has n_features 0, but it must be a whole number of at least 1"),
    ],
)
def test_what_are_no_features_is_refused_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error_info:
        feature_set_of(config_of(name))
    assert str(error_info.value).startswith("--features: ")
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((5, 3)), r"gave float64 of shape \(5, 3\), but must give numbers of shape \(5, 2\)"),
        (np.zeros((2, 5)), r"shape \(2, 5\)"),
        (np.zeros(2), r"shape \(2,\)"),
        ([["a", "b"]] * 5, "gave <U1 of shape"),
        (None, "gave object of shape"),
        ([[1, 2], [3]], "failed .ValueError"),
        ([[0, 0], [0, np.nan]] + [[0, 0]] * 3, "gave nan as number 1 of train 1 at step 0"),
        ([[0, 0]] * 4 + [[1e300, 0]], r"gave 1e\+300 as number 0 of train 4"),
    ],
)
def test_what_is_not_numbers_of_all_trains_is_refused(given: Any, words: str, state: RailState) -> None:
    class Given(Handles):
        def __call__(self, state: RailState) -> Any:
            return given

    with pytest.raises(FeaturesError, match=words) as error_info:
        checked_features(Given(), state)
    assert "'handles' version 2" in str(error_info.value)
    assert "\n" not in str(error_info.value)


def test_whole_numbers_and_booleans_are_numbers(state: RailState) -> None:
    class Given(Handles):
        def __call__(self, state: RailState) -> Any:
            return np.ones((state.n_trains, 2), dtype=bool)

    assert checked_features(Given(), state).dtype == np.float32


def test_tells_before_training() -> None:
    config = config_of(f"{OWN}:NaN")
    with pytest.raises(FeaturesError, match="gave nan"):
        check_features(config, feature_set_of(config))


def test_command_line_exits_2_before_any_folder_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoint_dir", "output_dir", "replay_buffer_dir")]
    assert multi_agent_training.main(["-t", "Tiny", "--features", f"{OWN}:NaN", *folders]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "n_episodes": 6,
        "num_envs": 3,
        "features": f"{OWN}:Handles",
        "save_replay_buffer": True,
    }

    def test_resumed_is_as_uninterrupted(self, tmp_path: Path) -> None:
        whole = run(tmp_path / "whole", **self.OPTIONS)
        assert_equals_uninterrupted(tmp_path / "parts", whole, 40, self.OPTIONS)

    def calls_before_an_end(self, base: Path) -> int:
        """How often features are asked for before the step in which the first episode ends."""
        before: list[tuple[int, float]] = []
        trainer, _ = make_trainer(base, **self.OPTIONS)

        def count() -> bool:
            before.append((trainer.episode, 10**6 - Handles.calls_left))
            return trainer.episode > 0

        trainer.stop_requested = count
        Handles.calls_left = 10**6
        trainer.run()
        return int(max(calls for episode, calls in before if episode == 0))

    @pytest.mark.parametrize("place", ["first level", "third level", "in play", "as an episode ends"])
    def test_that_breaks_leaves_a_checkpoint_that_goes_on_when_they_are_mended(
        self, tmp_path: Path, place: str
    ) -> None:
        """Whatever was in play then: in the end every level is."""
        trainer, _ = make_trainer(tmp_path, **self.OPTIONS)
        an_end = self.calls_before_an_end(tmp_path / "before")
        calls = {"first level": 0, "third level": 2, "in play": 10, "as an episode ends": an_end}
        Handles.calls_left = calls[place]
        with pytest.raises(FeaturesError, match="gave nan") as error_info:
            trainer.run()
        assert error_info.value.saved
        Handles.calls_left = math.inf
        checkpoint = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
        resumed, _ = resume(tmp_path, checkpoint, **self.OPTIONS)
        assert resumed.run()
        assert resumed.episode == resumed.experience.next_level == 6

    def test_that_breaks_in_a_worker_is_told_as_in_one_process(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, num_workers=1, n_episodes=6, features=f"{OWN}:NaN")
        with pytest.raises(FeaturesError, match="gave nan") as error_info:
            trainer.run()
        assert error_info.value.saved


class TestCheckpoints:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        trainer, _ = make_trainer(tmp_path, features=f"{OWN}:Handles")
        path = tmp_path / "x.pt"
        write_checkpoint(path, trainer.state.state_dict() | {"replay_buffers": []})
        return path

    def test_hold_name_and_version(self, path: Path) -> None:
        content = read_checkpoint(path)
        assert content["feature_set"]["more"] == {"name": "handles", "version": 2, "n_features": 2}
        assert stored_feature_set(content, path, f"{OWN}:Handles").n_features == 271
        _, observer = load_policy(path, named=NamedCode(features=(f"{OWN}:Handles", "none")))
        assert observer.feature_set.label == "tree_routes version 1 with handles version 2"

    def test_without_features_are_as_ever(self, tmp_path: Path) -> None:
        assert make_trainer(tmp_path)[0].state.state_dict()["feature_set"] == {"name": "tree_routes", "version": 1}

    @pytest.mark.parametrize(
        ("now", "words"),
        [
            ("Longer", "handles version 2 has 7 numbers, but .* with handles version 2 with 2: give it a new version"),
            ("Newer", "handles version 2, but --features gives handles version 3"),
            ("Others", "handles version 2, but --features gives others version 2"),
        ],
    )
    def test_of_other_features_of_the_same_name_of_code(
        self, path: Path, now: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import tests.helpers.own_code as own

        monkeypatch.setattr(own, "Handles", getattr(own, now))
        with pytest.raises(CheckpointError, match=words):
            load_policy(path, named=NamedCode(features=(f"{OWN}:Handles",)))
        assert multi_agent_training.main(["--resume", str(path), "--features", f"{OWN}:Handles"]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize("named", [(), ("none",), (f"{OWN}:Others",)])
    def test_of_features_that_are_not_named(self, path: Path, named: tuple[str, ...]) -> None:
        with pytest.raises(CheckpointError, match=f"{OWN}:Handles"):
            load_policy(path, named=NamedCode(features=named))

    def test_replay_buffers_hold_them_too(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path / "a", n_episodes=2, features=f"{OWN}:Handles", save_replay_buffer=True)
        (saved,) = trainer.folders.replay_buffers.glob("*.npz")
        same, _ = make_trainer(tmp_path / "b", features=f"{OWN}:Handles")
        same.population.learners[0].buffer.restore(saved)
        for features, words in (("none", "but this run uses tree_routes version 1."), (f"{OWN}:Newer", "version 3")):
            other, _ = make_trainer(tmp_path / "c", features=features)
            with pytest.raises(ReplayBufferError, match=words):
                other.population.learners[0].buffer.restore(saved)
