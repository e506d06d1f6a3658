"""The command line: all forms of options, and parser, help and docs/options.md that agree with the table."""

import dataclasses
import re
from collections.abc import Callable

import pytest

from reinforcement_learning.settings.command_line import build_parser, given_options, options_as_markdown
from reinforcement_learning.settings.config import GROUPS, TrainingConfig
from reinforcement_learning.settings.run_config import make_config
from utils.system.files import PROJECT_ROOT

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


def test_environments_given_one_by_one_are_a_list() -> None:
    assert given_options(["-t", "2", "-t", "Tiny"]) == given_options(["-t", "2,Tiny"]) != {}


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
    needed = ("-t0,1",) if name == "curriculum" else ()
    forms = {(): default, (f"--{name}",): True, (f"--{name}=True",): True, (f"--{name}", "False"): False}
    forms |= {(f"--{name}=0",): False, (f"--{name}", "no"): False, (f"--{name}=1", "-n", "3"): True}
    assert {form: getattr(parse(*needed, *form), name) for form in forms} == forms


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
        *([f"--{name}=--"] for name in NAMES),
        ["-n--"],
        ["-n", "1e300"],
        ["-n", "9" * 5000],
        ["--seed", str(2**63)],
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
    assert len(err) < 200
    assert arguments[0].split("=")[0].strip("-") in err


@pytest.mark.parametrize("given", [["--output_dir=~/my=runs"], ["--output_dir", "~/my=runs"]])
def test_home_folder_has_a_short_name(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert parse(*given).output_dir == "/home/anna/my=runs"
    assert parse("--run_name=a~").run_name == "a~"


def test_name_of_sample_factory_is_understood() -> None:
    assert given_options(["--pbt_mix_policies_in_one_env", "False"]) == {"mix_policies_in_one_env": False}
    assert given_options(["--pbt_mix_policies_in_one_env"]) == {"mix_policies_in_one_env": True}


class TestOneTable:
    def test_every_field_is_an_option_with_help_in_a_known_group(self) -> None:
        assert set(vars(build_parser().parse_args([]))) == set(NAMES)
        sections = build_parser().format_help().split("\n\n")
        for row in ROWS:
            (section,) = (text for text in sections if text.startswith(f"{GROUPS[row.metadata['group']]}:\n"))
            assert re.search(rf"^  (-\w( [^-]*)?, )?--{row.name}\b", section, re.MULTILINE), row.name

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
