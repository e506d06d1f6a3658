"""The table of options: parser, help, README section and configuration agree, and bad values end in one sentence."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.config import (
    GROUPS,
    PROJECT_ROOT,
    ConfigError,
    TrainingConfig,
    build_parser,
    given_options,
    make_config,
    options_as_markdown,
)

ROWS = dataclasses.fields(TrainingConfig)
BOOLEANS = [row.name for row in ROWS if isinstance(row.default, bool)]
NAMES = [row.name for row in ROWS]


def parse(*arguments: str) -> TrainingConfig:
    return make_config(given_options(arguments))


@pytest.mark.parametrize(
    ("flag", "name", "default"),
    [
        ("-n", "n_episodes", 2500),
        ("-t", "training_env_config", "0"),
        ("-e", "evaluation_env_config", "0"),
        ("--n_evaluation_episodes", "n_evaluation_episodes", 25),
        ("--checkpoint_interval", "checkpoint_interval", 100),
        ("--eps_start", "eps_start", 1.0),
        ("--save_replay_buffer", "save_replay_buffer", False),
        ("--use_gpu", "use_gpu", False),
        ("--render", "render", False),
        ("--checkpoint_dir", "checkpoint_dir", str(PROJECT_ROOT / "checkpoints")),
        ("--replay_buffer_dir", "replay_buffer_dir", str(PROJECT_ROOT / "replay_buffers")),
        ("--output_dir", "output_dir", str(PROJECT_ROOT / "runs")),
    ],
)
def test_documented_defaults_and_short_forms(flag: str, name: str, default: object) -> None:
    assert getattr(parse(), name) == default
    other = {int: "7", str: "1" if name.endswith("config") else "elsewhere", float: "0.5", bool: "True"}[type(default)]
    assert given_options([flag, other]) == given_options([f"--{name}", other]) != {}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("eps_end", "0.05", 0.05),
        ("eps_decay", "0.99", 0.99),
        ("buffer_size", "1e5", 100_000),
        ("buffer_min_size", "200", 200),
        ("batch_size", "64", 64),
        ("gamma", "0.95", 0.95),
        ("tau", "0.01", 0.01),
        ("learning_rate", "1e-3", 1e-3),
        ("hidden_size", "64", 64),
        ("update_every", "4", 4),
        ("num_threads", "2", 2),
        ("seed", "3", 3),
        ("resume", "latest", "latest"),
        ("run_name", "mine", "mine"),
        ("restore_replay_buffer", "buffer.npz", "buffer.npz"),
    ],
)
def test_values_arrive_with_their_type(name: str, text: str, value: object) -> None:
    got = getattr(parse(f"--{name}", text), name)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize("name", BOOLEANS)
def test_booleans_in_all_forms(name: str) -> None:
    default = getattr(TrainingConfig(), name)
    forms = {(): default, (f"--{name}",): True, (f"--{name}=True",): True, (f"--{name}", "False"): False}
    forms |= {(f"--{name}=0",): False, (f"--{name}", "no"): False, (f"--{name}=1", "-n", "3"): True}
    assert {form: getattr(parse(*form), name) for form in forms} == forms


def test_boolean_without_value_leaves_the_next_option_alone() -> None:
    config = parse("--render", "-n", "7", "--use_gpu", "--seed=2")
    assert (config.render, config.n_episodes, config.use_gpu, config.seed) == (True, 7, True, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no_such_flag"],
        ["--n_episode", "5"],  # no guessing by prefixes
        ["surplus"],
        ["-n"],
        ["-n", "many"],
        ["-n", "2.5"],
        ["-n", "nan"],
        ["-n", "inf"],
        ["--gamma", "high"],
        ["--render=perhaps"],
        ["--wandb="],
    ],
)
def test_unreadable_command_line_exits_2_with_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        given_options(arguments)
    assert exit_info.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert arguments[0].split("=")[0].lstrip("-") in err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_episodes", 0),
        ("n_episodes", -3),
        ("training_env_config", "3"),
        ("evaluation_env_config", "Test_7"),
        ("training_env_config", "missing.pkl"),
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


class TestOneTable:
    def test_every_field_is_an_option_with_help_in_a_known_group(self) -> None:
        actions = {action.dest: action for action in build_parser()._actions}
        for row in ROWS:
            assert f"--{row.name}" in actions[row.name].option_strings
            assert row.metadata["group"] in GROUPS
        assert set(actions) == {*NAMES, "help"}

    def test_parser_defaults_are_the_configuration(self) -> None:
        assert TrainingConfig(**vars(build_parser().parse_args([]))) == TrainingConfig()

    @pytest.mark.parametrize("text", [build_parser().format_help, options_as_markdown])
    def test_help_and_readme_section_name_every_option_with_its_meaning(self, text: Callable[[], str]) -> None:
        words = " ".join(text().split())
        for row in ROWS:
            assert f"--{row.name}" in words
            # the first words: argparse may break a line at a hyphen
            assert " ".join(row.metadata["help"].split()[:2]) in words
            if row.metadata["short"]:
                assert f"-{row.metadata['short']}" in words

    def test_readme_section_shows_defaults_and_no_path_of_this_machine(self) -> None:
        section = options_as_markdown()
        assert "| `-n`, `--n_episodes` | 2500 |" in section
        assert "| checkpoints/ of the project |" in section
        assert str(PROJECT_ROOT) not in section

    def test_configuration_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            TrainingConfig().seed = 1  # type: ignore[misc]


class TestMakeConfig:
    def test_options_win_over_stored_values_which_win_over_defaults(self) -> None:
        config = make_config({"gamma": 0.8}, {"gamma": 0.9, "tau": 0.5})
        assert (config.gamma, config.tau, config.batch_size) == (0.8, 0.5, TrainingConfig.batch_size)

    def test_stored_options_that_no_longer_exist_are_left_out(self) -> None:
        assert make_config({}, {"option_of_long_ago": 1}) == make_config({})

    @pytest.mark.parametrize(("name", "stored", "given"), [("seed", 1, 2), ("hidden_size", 64, 32)])
    def test_fixed_options_cannot_change(self, name: str, stored: int, given: int) -> None:
        with pytest.raises(ConfigError, match=rf"--{name} is {given}.*{stored}"):
            make_config({name: given}, {name: stored})
        assert getattr(make_config({name: stored}, {name: stored}), name) == stored
        assert getattr(make_config({}, {name: stored}), name) == stored

    def test_feature_set_cannot_change_and_both_are_named(self) -> None:
        with pytest.raises(ConfigError, match=r"'tree_timetable'.*'tree'"):
            make_config({"feature_set": "tree_timetable"}, {"feature_set": "tree"})

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
