"""The W&B sink with the real client, in processes of their own: no account, no network, no terminal."""

import http.server
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.tracking.wandb_sink import check_wandb
from utils.system.files import PROJECT_ROOT

FAKE_KEY = "0123456789" * 4

SCRIPT = """
import json, math, sys
from reinforcement_learning.tracking.metrics import MetricsWriter
from reinforcement_learning.tracking.wandb_sink import WandbSink
sink = WandbSink("project", "name", {"batch_size": 32, "gamma": 0.99}, tags=["tag"], directory="here",
                 **json.loads(sys.argv[1]))
run = getattr(sys.modules.get("wandb"), "run", None)
result = {"run_id": sink.run_id, "config": dict(run.config) if run else {}}
writer = MetricsWriter([sink])
for episode, score in ((1, -0.5), (2, -0.25), (3, -0.75)):
    writer.log(episode, {"training/score": score, "training/loss": math.nan})
    writer.log(episode, {"evaluation/scores_mean": score, "evaluation/completions_mean": -score})
writer.summary({"n_parameters": 1234.0})
writer.close(exit_code=3)
print("RESULT" + json.dumps(result))
"""


def run_script(folder: Path, script: str = SCRIPT, sink: dict | None = None, **environment: str) -> dict[str, Any]:
    """Runs a script in a clean environment; its result and what it said on standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and "proxy" not in k.lower()}
    clean.update(HOME=str(folder), PYTHONPATH=str(PROJECT_ROOT), NETRC=str(folder / "netrc"), **environment)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(sink or {})],
        cwd=folder,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.rsplit("RESULT", 1)[1])
    return {**result, "stderr": done.stderr}


def read_records(folder: Path) -> list[Any]:
    """The records of the only offline run in a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("here/wandb/offline-run-*/run-*.wandb")
    records = []
    for content in _chunks(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        records.append(record)
    return records


def _chunks(data: bytes) -> Iterator[bytes]:
    """The payloads of W&B's file: LevelDB's log format behind a header of 7 bytes."""
    position, block, pending = 7, 32768, b""
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
        _, length, kind = struct.unpack_from("<IHB", data, position)
        pending += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield pending
            pending = b""


def _items(message: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message}


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    folder = tmp_path_factory.mktemp("offline")
    return run_script(folder), read_records(folder)


def test_without_a_key_the_run_is_offline_and_asks_nothing(offline_run):
    result, _ = offline_run
    assert result["run_id"]
    assert result["config"] == {"batch_size": 32, "gamma": 0.99}
    assert "failed" not in result["stderr"]


def test_rows_carry_the_episode_and_finite_values_only(offline_run):
    _, records = offline_run
    rows = [_items(record.history.item) for record in records if record.HasField("history")]
    plain = [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]
    assert plain == [
        {"episode": 1, "training/score": -0.5},
        {"episode": 1, "evaluation/scores_mean": -0.5, "evaluation/completions_mean": 0.5},
        {"episode": 2, "training/score": -0.25},
        {"episode": 2, "evaluation/scores_mean": -0.25, "evaluation/completions_mean": 0.25},
        {"episode": 3, "training/score": -0.75},
        {"episode": 3, "evaluation/scores_mean": -0.75, "evaluation/completions_mean": 0.75},
    ]


def test_every_metric_is_drawn_over_episodes(offline_run):
    _, records = offline_run
    steps = {m.metric.glob_name: m.metric.step_metric for m in records if m.HasField("metric")}
    assert steps["*"] == "episode"


def test_best_values_and_summary_are_plain_numbers(offline_run):
    _, records = offline_run
    summary: dict[str, Any] = {}
    for record in records:
        if record.HasField("summary"):
            summary.update(_items(record.summary.update))
    assert summary["evaluation/scores_mean_best"] == -0.25
    assert summary["evaluation/completions_mean_best"] == 0.75
    assert summary["n_parameters"] == 1234


def test_exit_code_reaches_the_run(offline_run):
    _, records = offline_run
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [3]


def test_unreachable_server_loses_nothing(tmp_path):
    result = run_script(tmp_path, WANDB_API_KEY=FAKE_KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert "does not answer; training goes on with W&B offline" in result["stderr"]
    assert sum(record.HasField("history") for record in read_records(tmp_path)) == 6


def test_server_that_refuses_the_key_leaves_the_run_offline(tmp_path):
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        script = (
            "from reinforcement_learning.tracking import wandb_sink; wandb_sink._TIMEOUTS['init_timeout'] = 5.0\n"
            + SCRIPT
        )
        result = run_script(tmp_path, script, WANDB_API_KEY=FAKE_KEY, WANDB_BASE_URL=url)
        server.shutdown()
    assert "training goes on with W&B offline" in result["stderr"]
    assert sum(record.HasField("history") for record in read_records(tmp_path)) == 6


def test_disabled_writes_nothing_and_has_no_id(tmp_path):
    result = run_script(tmp_path, WANDB_MODE="disabled")
    assert result["run_id"] is None
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"WANDB_MODE": "banana"}, "training goes on without it"),
        ({"WANDB_API_KEY": "short"}, "training goes on with W&B offline"),
        ({"WANDB_MODE": "online"}, ""),  # online without a key would ask in a terminal
    ],
)
def test_wrong_settings_do_not_stop_training(tmp_path, environment, told):
    result = run_script(tmp_path, **environment)
    assert told in result["stderr"]
    assert "Traceback" not in result["stderr"]


def test_sweep_brings_its_own_run_and_its_values_win(tmp_path):
    (tmp_path / "parameters.yaml").write_text("wandb_version: 1\nbatch_size:\n  value: 256\n")
    result = run_script(
        tmp_path,
        sink={"run_id": "from-a-checkpoint"},
        WANDB_SWEEP_ID="sweep",
        WANDB_RUN_ID="from-the-agent",
        WANDB_PROJECT="project-of-the-sweep",
        WANDB_SWEEP_PARAM_PATH=str(tmp_path / "parameters.yaml"),
    )
    assert result["config"] == {"batch_size": 256, "gamma": 0.99}
    assert result["run_id"] == "from-the-agent"
    (run,) = (record.run for record in read_records(tmp_path) if record.HasField("run"))
    assert run.project == "project-of-the-sweep"


def test_resumed_run_keeps_its_id(tmp_path):
    assert run_script(tmp_path, sink={"run_id": "earlier"})["run_id"] == "earlier"


def test_wandb_that_cannot_be_imported_does_not_stop_training(tmp_path):
    script = "import sys; sys.modules['wandb'] = None\n" + SCRIPT
    result = run_script(tmp_path, script)
    assert result["run_id"] is None
    assert result["config"] == {}
    assert "training goes on without it" in result["stderr"]


@pytest.fixture
def no_settings(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("project", ["a/b", "a#b", "", "x" * 129])
def test_project_that_wandb_would_not_take_is_refused(project):
    with pytest.raises(ConfigError, match="--wandb_project is"):
        check_wandb(TrainingConfig(wandb_project=project))
    check_wandb(TrainingConfig(wandb_project=project, wandb=False))


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("mode", ["", "banana"])
def test_mode_that_is_none_is_refused(monkeypatch, mode):
    check_wandb(TrainingConfig())
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ConfigError, match="WANDB_MODE is"):
        check_wandb(TrainingConfig())
    monkeypatch.setenv("WANDB_MODE", "disabled")
    check_wandb(TrainingConfig())
