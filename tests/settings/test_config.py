"""The configuration: bad values end in one sentence, and given options win over stored ones."""

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.features import feature_set_of
from reinforcement_learning.settings.run_config import make_config
from utils.levels.mixtures import environments_of
from utils.system.files import PROJECT_ROOT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_episodes", 0),
        ("n_episodes", -3),
        ("training_env_config", "3"),
        ("evaluation_env_config", "Test_7"),
        ("training_env_config", "missing.pkl"),
        ("training_env_config", "Tiny,Tiny"),
        ("evaluation_env_config", "Tiny,Test_0"),
        ("n_evaluation_episodes", 0),
        ("checkpoint_interval", 0),
        ("seed", -1),
        ("run_name", "a/b"),
        ("run_name", ".."),
        ("checkpoint_dir", ""),
        ("replay_buffer_dir", ""),
        ("output_dir", ""),
        ("eps_start", 1.5),
        ("eps_end", -0.1),
        ("eps_decay", 0.0),
        ("eps_decay", 1.1),
        ("buffer_size", 0),
        ("buffer_min_size", -1),
        ("batch_size", 0),
        ("update_every", 0),
        ("gamma", 1.01),
        ("gamma", math.nan),
        ("n_step", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("learning_rate", -1e-3),
        ("tau", 0.0),
        ("tau", 2.0),
        ("max_grad_norm", 0.0),
        ("hidden_size", 0),
        ("hidden_size", 10**9),
        ("shaping", -1.0),
        ("arrival_reward", math.inf),
        ("deadlock_penalty", -0.5),
        ("team_reward", 1.5),
        ("feature_set", "forest"),
        ("decision_points", "nowhere"),
        ("keep_checkpoints", 0),
        ("num_threads", 0),
        ("num_threads", 10**9),
    ],
)
def test_value_out_of_range_names_option_and_value(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error_info:
        TrainingConfig(**{name: value})
    sentence = str(error_info.value)
    assert f"--{name}" in sentence
    assert str(value) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"eps_start": 0.1, "eps_end": 0.2}, ["eps_end", "eps_start"]),
        ({"batch_size": 20, "buffer_size": 10, "buffer_min_size": 0}, ["batch_size", "buffer_size"]),
        ({"buffer_min_size": 1000, "buffer_size": 999}, ["buffer_min_size", "buffer_size"]),
    ],
)
def test_values_that_do_not_go_together(options: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(ConfigError) as error_info:
        TrainingConfig(**options)
    assert all(f"--{name}" in str(error_info.value) for name in names)


def test_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1  # type: ignore[misc]


class TestMakeConfig:
    def test_options_win_over_stored_values_which_win_over_defaults(self) -> None:
        config = make_config({"gamma": 0.8}, {"gamma": 0.9, "tau": 0.5})
        assert (config.gamma, config.tau, config.batch_size) == (0.8, 0.5, TrainingConfig.batch_size)

    @pytest.mark.parametrize("stored", [{"option_of_long_ago": 1}, {"level_cache": "/tmp/levels"}])
    def test_stored_options_that_no_longer_exist_are_left_out(self, stored: dict[str, Any]) -> None:
        assert make_config({}, stored) == make_config({})

    @pytest.mark.parametrize(("name", "stored", "given"), [("seed", 1, 2), ("hidden_size", 64, 32)])
    def test_fixed_options_cannot_change(self, name: str, stored: int, given: int) -> None:
        with pytest.raises(ConfigError, match=rf"--{name} is {given}.*{stored}"):
            make_config({name: given}, {name: stored})
        assert getattr(make_config({name: stored}, {name: stored}), name) == stored
        assert getattr(make_config({}, {name: stored}), name) == stored

    def test_feature_set_cannot_change_and_both_are_named(self) -> None:
        with pytest.raises(ConfigError, match=r"'tree_timetable'.*'tree'"):
            make_config({"feature_set": "tree_timetable"}, {"feature_set": "tree"})

    def test_several_environments_have_the_rewards_that_were_asked_for(self) -> None:
        config = make_config({"training_env_config": "Tiny,Test_0", "rewards": "ecml2026"})
        assert [environment.name for environment in environments_of(config.training_env)] == ["Tiny", "Test_0"]
        assert {environment.rewards for environment in environments_of(config.training_env)} == {
            config.evaluation_env.rewards
        }

    def test_a_curriculum_of_one_environment_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="--curriculum has no effect with one environment"):
            make_config({"curriculum": False})
        assert not make_config({"curriculum": False, "training_env_config": "Tiny,Test_0"}).curriculum

    def test_stored_bad_value_is_a_sentence_too(self) -> None:
        with pytest.raises(ConfigError, match="--gamma is 7"):
            make_config({}, {"gamma": 7})

    def test_folders_do_not_depend_on_where_the_next_command_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = make_config({"checkpoint_dir": "mine", "output_dir": "out/", "replay_buffer_dir": "buffers"})
        assert config.checkpoint_dir == str(Path.cwd() / "mine")
        monkeypatch.chdir("/")
        assert make_config({}, config.as_dict()) == config


class TestAsDict:
    def test_leaves_out_the_folders_of_the_project(self) -> None:
        stored = make_config({}).as_dict()
        assert str(PROJECT_ROOT) not in str(stored)
        assert not {"checkpoint_dir", "replay_buffer_dir", "output_dir"} & set(stored)

    def test_keeps_everything_else(self) -> None:
        config = make_config({"checkpoint_dir": "/somewhere", "gamma": 0.5, "keep_checkpoints": 9})
        assert make_config({}, config.as_dict()) == config
        assert config.as_dict()["checkpoint_dir"] == "/somewhere"


def test_what_is_found_by_name_goes_with_the_configuration() -> None:
    config = TrainingConfig(training_env_config="Tiny", evaluation_env_config="1", feature_set="tree")
    assert (config.training_env.name, config.evaluation_env.name) == ("Tiny", "Test_1")
    assert feature_set_of(config).name == "tree"
    sent = pickle.loads(pickle.dumps(config))  # to another process
    assert sent == config
    assert sent.training_env == config.training_env
    other = dataclasses.replace(config, training_env_config="0")
    assert other.training_env.name == "Test_0"
    assert set(config.as_dict()) == set(other.as_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden_size": 64, "network": "mine:Net"}, "--hidden_size has no effect with --network mine:Net"),
        ({"hidden_size": 64, "network": "mine:Net,mine:Other", "num_policies": 2}, "--hidden_size has no effect"),
        ({"ray_address": "auto"}, "--ray_address has no effect without --async_rl"),
        ({"dagger": True, "demonstrations": 0.0}, "--dagger has no effect here"),
        ({"dagger": True, "feature_set": "tree_routes"}, "--dagger has no effect here"),
    ],
)
def test_option_that_others_make_meaningless_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(options)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_size": 64},
        {"hidden_size": 64, "network": "mine:Net,dueling", "num_policies": 2},
        {"hidden_size": 64, "network": "attention"},
        {"network": "mine:Net"},
        {"ray_address": "auto", "async_rl": True},
    ],
)
def test_option_that_has_an_effect_is_accepted(options: dict[str, Any]) -> None:
    assert make_config(options).as_dict().items() >= options.items()


def test_number_of_an_environment_that_python_cannot_read() -> None:
    with pytest.raises(ConfigError, match="--training_env_config"):
        TrainingConfig(training_env_config="9" * 5000)
