"""The examples run from any folder; each is a row of ``EXAMPLES``."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT

EVALUATE = "reinforcement_learning/evaluate_agent.py -e Tiny -n 2"
# what makes a training short; OUT is another folder than the one that it is started from
TRAIN = "reinforcement_learning/multi_agent_training.py -t Tiny -e Tiny -n 2 --n_evaluation_episodes 1 --wandb False"
TRAIN += " --buffer_size 2000 --buffer_min_size 50 --batch_size 16 --num_workers 1 --level_workers 0 --run_name run"
TRAIN += " --checkpoint_dir OUT --output_dir OUT --replay_buffer_dir OUT"


def trained_and_scored(named: str) -> str:
    """A training with what an example adds to it, in both processes, and its score."""
    return f"{TRAIN} {named} && {EVALUATE.replace('-n 2', '-n 1')} --policy OUT/run/best.pt {named}"


# example, commands that use it, the modules it needs beyond requirements.txt, something that it prints
EXAMPLES = [
    ("own_loop.py", "examples/own_loop.py --episodes 3", ["pettingzoo"], "episode 3: score -"),
    ("maskable_ppo.py", "examples/maskable_ppo.py --steps 1000", ["pettingzoo", "sb3_contrib"], "episodes, score -"),
    (
        "own_policy.py",
        f"{EVALUATE} --policy examples.own_policy:OneAfterTheOther --policy examples.own_policy:Hasty",
        [],
        "difference to examples.own_policy:OneAfterTheOther",
    ),
    (
        "learning_reward.py",
        f"{TRAIN} --learning_reward examples.learning_reward:learning_reward",
        [],
        "Finished after 2 of 2 episodes",
    ),
    ("tree_attention.py", trained_and_scored("--network examples.tree_attention:TreeAttention"), [], "1 level"),
    ("more_features.py", trained_and_scored("--features examples.more_features:Order"), [], "1 level"),
]


@pytest.mark.parametrize(("example", "command", "needs", "printed"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_runs(
    example: str, command: str, needs: list[str], printed: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -r requirements-pettingzoo.txt")
    for part in command.replace("OUT", str(tmp_path_factory.mktemp("out"))).split(" && "):
        script, *arguments = part.split()
        whole = [sys.executable, str(PROJECT_ROOT / script), *arguments]
        ended = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr
    assert printed in ended.stdout
    assert not list(tmp_path.iterdir())


def test_every_example_is_run() -> None:
    scripts = {path.name for path in (PROJECT_ROOT / "examples").glob("*.py")} - {"__init__.py"}
    assert {row[0] for row in EXAMPLES} == scripts
