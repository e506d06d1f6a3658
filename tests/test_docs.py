"""The Markdown pages agree with the code, with the records in benchmarks/, and with one another."""

import ast
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.multi_policy.mapping import PolicyMapping
from reinforcement_learning.settings.command_line import options_as_markdown
from reinforcement_learning.settings.config import TrainingConfig
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.rail_state import RailState
from utils.system.files import PROJECT_ROOT

FOLDERS = ("docs", "benchmarks", "benchmarks/learning", "checkpoints", "replay_buffers")
PAGES = [
    PROJECT_ROOT / "README.md",
    *(page for folder in FOLDERS for page in sorted((PROJECT_ROOT / folder).glob("*.md"))),
]
TEXTS = {page.relative_to(PROJECT_ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
EACH_PAGE = pytest.mark.parametrize("page", TEXTS)
LARGEST_README = 12_000  # bytes: five minutes

CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
PATH = re.compile(r"(?<![\w/.~<-])[A-Za-z][\w-]*/(?:[\w.-]+/)*[\w.-]+\.(?:py|md|png|jsonl?|pt|npz|gif|yaml|txt|toml)\b")
FOLDER = re.compile(r"^(?:reinforcement_learning|utils|benchmarks|examples)/(?:\w+/)*$")
PLACEHOLDER = re.compile(r"(?<!\w)[A-Z]+/")  # checkpoints/RUN/best.pt
OPTION = re.compile(r"(?<![\w-])--[a-zA-Z][\w-]*")
EXAMPLE = re.compile(r"\bexamples\.(\w+):(\w+)")
WRITTEN_BY_PROGRAMS = ("checkpoints/mine/",)
# options of Ray, TensorBoard and others, and --x, which stands for any
OF_OTHERS = {"--address", "--check", "--count", "--generate", "--head", "--include-dashboard", "--logdir"}
OF_OTHERS |= {"--no-logo", "--num-cpus", "--platform", "--port", "--samples_per_plugin", "--x"}
OF_OTHERS |= {"--build-arg", "--dist", "--no-deps", "--target"}


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        numbered = itertools.chain([slug], (f"{slug}-{i}" for i in itertools.count(1)))
        found.add(next(name for name in numbered if name not in found))
    return found


def commands(text: str) -> Iterator[str]:
    """Every line of a code block and every piece of inline code."""
    for block in CODE_BLOCK.findall(text):
        yield from block.splitlines()
    yield from CODE_SPAN.findall(CODE_BLOCK.sub("", text))


def options_of_scripts() -> set[str]:
    """Every option that a script of the project takes."""
    of_training = dataclasses.fields(TrainingConfig)
    known = {"-h", "--help", *(f"--{row.name}" for row in of_training)}
    known |= {f"-{row.metadata['short']}" for row in of_training}
    known |= {f"--{row.metadata['also']}" for row in of_training}
    scripts = [
        path
        for folder in ("reinforcement_learning", "benchmarks", "examples")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
    ]
    for path in [PROJECT_ROOT / "run.py", *scripts]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):  # of add_argument, whatever it is called there
                known |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return known


def rows(page: str, heading: str) -> dict[str, list[list[float]]]:
    """The first table below a heading: [value, standard error] of each cell, by the name of the row."""
    section = TEXTS[page].split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip(" |").split(" | ") for line in section.splitlines() if "±" in line and line.startswith("|")]
    return {
        name.replace("*", "").replace("`", ""): [[float(x) for x in cell.strip("*").split(" ± ")] for cell in cells]
        for name, *cells in table
    }


def test_readme_is_short() -> None:
    assert (PROJECT_ROOT / "README.md").stat().st_size <= LARGEST_README


def test_index_names_every_page() -> None:
    links = {first for first, _ in LINK.findall(TEXTS["docs/README.md"])}
    assert {page.name for page in (PROJECT_ROOT / "docs").glob("*.md")} - {"README.md"} <= links


def test_page_of_options_is_made_from_the_table_of_options() -> None:
    section = re.search(r"<!-- options -->\n\n(.*)\n<!-- end of options -->", TEXTS["docs/options.md"], re.DOTALL)
    assert section is not None
    assert section[1] == options_as_markdown(), (
        "put what options_as_markdown() returns between the two markers of docs/options.md"
    )


@EACH_PAGE
def test_links_and_their_anchors_resolve(page: str) -> None:
    for target in (first or second for first, second in LINK.findall(CODE_BLOCK.sub("", TEXTS[page]))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (PROJECT_ROOT / page).parent / name if name else PROJECT_ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@EACH_PAGE
def test_files_that_are_named_exist(page: str) -> None:
    names = {name for line in commands(TEXTS[page]) for name in PATH.findall(line) + FOLDER.findall(line)}
    fixed = [name for name in names if not PLACEHOLDER.search(name) and not name.startswith(WRITTEN_BY_PROGRAMS)]
    assert [name for name in sorted(fixed) if not (PROJECT_ROOT / name).exists()] == []


@EACH_PAGE
def test_examples_define_what_the_pages_name(page: str) -> None:
    for module, name in EXAMPLE.findall(TEXTS[page]):
        tree = ast.parse((PROJECT_ROOT / "examples" / f"{module}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@EACH_PAGE
def test_options_that_are_named_exist(page: str) -> None:
    named = {option for line in commands(TEXTS[page]) for option in OPTION.findall(line)}
    assert named - options_of_scripts() - OF_OTHERS == set()


@EACH_PAGE
def test_trainings_evaluate_where_they_train(page: str) -> None:
    """``-e`` is 0 unless it is given, so a command with ``-t 1`` alone would choose its best checkpoint on Test_0."""
    for line in commands(TEXTS[page]):
        if "multi_agent_training.py" in line and " -t " in line:
            *_, hardest = re.findall(r" -t (\S+)", line)
            assert re.findall(r" -e (\S+)", line) == [hardest], line


def snippet(page: str) -> str:
    """The only piece of Python on a page."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    return str(code)


def test_snippet_of_the_simulator_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(snippet("docs/simulator.md"), {})
    assert re.fullmatch(r"\[[0-6]( [0-6])*\]\n", capsys.readouterr().out)


def test_snippet_of_a_mapping_maps_fast_trains_to_the_first_policy() -> None:
    defined: dict[str, Any] = {}
    exec(snippet("docs/several-policies.md"), defined)
    state = RailState.from_env(make_rail_env(ENV_CONFIGS["Benchmarks_Test_02"], 1))
    config = TrainingConfig(num_policies=3, num_envs=1)
    mapping = PolicyMapping(defined["fast_trains_first"], "snippet", config, mixed=True)
    fast = state.max_speed == state.denominator
    assert 0 < fast.sum() < state.n_trains
    assert ((mapping.policy_of_train(0, state) == 0) == fast).all()


@pytest.mark.parametrize(
    ("page", "heading"),
    [("README.md", "Results"), ("docs/results.md", "The defaults, the shipped checkpoint and the rules")],
)
def test_scores_are_those_of_the_record(page: str, heading: str) -> None:
    table = rows(page, heading)
    names = {"random": "random", "never departs": "do_nothing", "shortest path": "shortest_path", "DLA": "dla"}
    names |= {"least_detour": "least_detour", "DLA, the heuristic of flatland-baselines": "dla"}
    recorded: dict[str, list[float]] = {name: [] for name in table if name in names}
    ours: list[float] = []
    for number in range(3):
        record = json.loads(
            (PROJECT_ROOT / f"benchmarks/learning/main_command_{number}.json").read_text(encoding="utf-8")
        )
        for name, cells in recorded.items():
            peer = record["peers"][names[name]]
            cells += [peer[f"{what}_{of}"] for what in ("score", "completion") for of in ("mean", "se")]
        summary = record["summary"]
        ours += [summary[f"last_{what}_mean{of}"] for what in ("score", "completion") for of in ("", "_se_over_seeds")]
    recorded["this kit, defaults, 3 seeds"] = ours
    assert "DLA" in recorded or "DLA, the heuristic of flatland-baselines" in recorded
    for name, cells in recorded.items():
        assert [value for cell in table[name] for value in cell] == pytest.approx(cells, abs=0.0006), name


def test_what_planning_brings_is_that_of_the_record() -> None:
    table = rows("docs/planning.md", "What it brings")
    for name, key in (("the network alone", "policy"), ("with planning", "with planning")):
        recorded = []
        for number in range(3):
            record = json.loads(
                (PROJECT_ROOT / f"benchmarks/learning/planning_{number}.json").read_text(encoding="utf-8")
            )[key]
            recorded += [record[f"{what}_{of}"] for what in ("score", "completion") for of in ("mean", "se")]
        assert [value for cell in table[name] for value in cell] == pytest.approx(recorded, abs=0.0006)
