"""What libraries import at every start and a training does not need is loaded when it is asked for."""

import subprocess
import sys

import pytest

from utils.system.files import PROJECT_ROOT


def run_after_importing_utils(code: str) -> str:
    command = [sys.executable, "-c", f"import sys, utils\n{code}"]
    return subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True).stdout


def test_a_training_loads_none_of_them() -> None:
    loaded = run_after_importing_utils(
        "import reinforcement_learning.multi_agent_training\n"
        "from torch.utils.tensorboard import SummaryWriter\n"
        "print(sorted({'matplotlib.figure', 'networkx.classes', 'boto3.session'} & sys.modules.keys()))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert loaded == "[]\nTrue\n"


@pytest.mark.parametrize(
    ("use", "shown"),
    [
        ("import matplotlib.pyplot as plt; print(plt.figure.__name__)", "figure"),
        ("from matplotlib import pyplot; print(pyplot.figure.__name__)", "figure"),
        ("from matplotlib.pyplot import *; print(figure.__name__)", "figure"),
        ("import networkx as nx; print(nx.DiGraph([(1, 2)]).number_of_nodes())", "2"),
        ("import networkx.algorithms.dag as dag; print(dag.__name__)", "networkx.algorithms.dag"),
        ("from boto3.session import Session; print(Session.__name__)", "Session"),
        ("import networkx; print(hasattr(networkx, '__wrapped__'), 'networkx.classes' in sys.modules)", "False False"),
        ("import networkx; print(hasattr(networkx, 'no_such_name'), 'networkx.classes' in sys.modules)", "False True"),
    ],
)
def test_they_can_be_used_as_ever(use, shown) -> None:
    assert run_after_importing_utils(use) == f"{shown}\n"


def test_threads_that_ask_at_the_same_time_all_get_what_they_ask_for() -> None:
    names = run_after_importing_utils(
        "import networkx\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print({graph.__name__ for graph in pool.map(lambda _: networkx.DiGraph, range(8))})"
    )
    assert names == "{'DiGraph'}\n"


def test_a_module_that_cannot_be_loaded_says_why_each_time(tmp_path) -> None:
    (tmp_path / "broken.py").write_text("raise OSError('no such luck')\n")
    said = run_after_importing_utils(
        "from utils.system import late_imports\n"
        "late_imports.LATE.add('broken')\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import broken\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        broken.anything\n"
        "    except OSError as error:\n"
        "        print(error)"
    )
    assert said == "no such luck\n" * 2
