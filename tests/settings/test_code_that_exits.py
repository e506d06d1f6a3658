"""``sys.exit`` in code of the user's own ends in one sentence, wherever that code is called."""

import re
from pathlib import Path

import pytest

from reinforcement_learning.evaluate_agent import main as evaluate
from reinforcement_learning.multi_agent_training import main as train

OWN = "tests.helpers.own_code"


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    assert "SystemExit" in sentence
    assert len(sentence) < 700
    return sentence


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("policy_mapping", "sys:exit", "failed in episode 0"),
        ("network", f"{OWN}:leaves", "cannot be made .SystemExit: enough; own_code.py, line"),
        ("features", "sys:exit", "cannot be made .SystemExit"),
        ("features", f"{OWN}:LeavesWhenAsked", "failed .SystemExit: 3; own_code.py, line"),
        ("learning_reward", f"{OWN}:leaves", "failed in step 1"),
        ("network", "leaves_at_once:anything", "cannot be imported"),
    ],
)
def test_a_training_says_so(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    name: str,
    words: str,
) -> None:
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")]
    arguments = ["-t", "Tiny", "-e", "Tiny", "--num_policies", "2", "--wandb", "False", f"--{option}", name]
    assert train([*arguments, *folders]) == 2
    assert re.search(words, one_sentence(capsys))


def test_scoring_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--policy", "sys:exit", "-e", "Tiny", "-n", "1"]) == 2
    one_sentence(capsys)
