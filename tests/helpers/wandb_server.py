"""Helper of the tests: a small stand-in for the server of Weights & Biases, on loopback.

It answers what wandb 0.31 asks to create a sweep, to run agents and to track runs, and keeps what arrives. Its
optimiser takes the first value of each parameter for the first run, the second for the second and so on, around. It
knows one sweep, which ends after a number of runs.
"""

import gzip
import http.server
import json
import re
import threading
from typing import Any

import yaml

ENTITY, PROJECT, SWEEP = "somebody", "trains", "swp12345"


class WandbServer(http.server.ThreadingHTTPServer):
    """Serves until it is left as a context manager.

    Args:
        n_runs: runs after which agents are told to exit.
    """

    daemon_threads = True

    def __init__(self, n_runs: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.n_runs = n_runs
        self.config: dict[str, Any] = {}  # the sweep as it was created
        self.handed_out: list[str] = []  # ids of the runs that agents were told to start
        self.runs: dict[str, dict[str, Any]] = {}  # what UpsertBucket said of each run
        self.history: dict[str, list[dict[str, Any]]] = {}  # rows of each run
        self.summary: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        self.operations: list[str] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that answers a query: what is asked for by name, nothing else."""
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = named[1] if named else ""
        with self._lock:
            self.operations.append(name)
            answer = getattr(self, f"_{name}", None)
            return answer(variables) if answer else {}

    def file_stream(self, run: str, content: dict[str, Any]) -> None:
        """Keeps the rows, the summary and the exit code of a run."""
        with self._lock:
            for name, file in (content.get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    self.history.setdefault(run, []).extend(json.loads(line) for line in file["content"])
                elif name == "wandb-summary.json":
                    self.summary.setdefault(run, {}).update(json.loads(file["content"][-1]))
            if content.get("complete"):
                self.exit_codes[run] = content["exitcode"]

    def _Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.config = yaml.safe_load(variables["config"])
        return {"upsertSweep": {"sweep": {"name": SWEEP, "project": _project()}, "configValidationWarnings": []}}

    def _SweepWithRuns(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": "2", "name": SWEEP, "config": yaml.safe_dump(self.config), "runs": {"edges": []}}
        return {"project": {"sweep": sweep if variables["sweep"] == SWEEP else None}}

    def _CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "3"}}}

    def _Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if not json.loads(variables["runState"]):
            if len(self.handed_out) == self.n_runs:
                commands = [{"type": "exit"}]
            else:
                n = len(self.handed_out)
                self.handed_out.append(f"run{n}")
                choices = {name: p["values"] for name, p in self.config["parameters"].items()}
                values = {name: {"value": of_one[n % len(of_one)]} for name, of_one in choices.items()}
                commands = [{"type": "run", "run_id": self.handed_out[-1], "args": values}]
                commands[0]["program"] = self.config["program"]
        return {"agentHeartbeat": {"agent": {"id": "3"}, "commands": json.dumps(commands)}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.runs.setdefault(variables["name"], {}).update({k: v for k, v in variables.items() if v is not None})
        bucket = {"id": "4", "name": variables["name"], "displayName": variables.get("displayName"), "config": "{}"}
        bucket |= {"sweepName": SWEEP, "historyLineCount": 0, "project": _project()}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "4", "uploadHeaders": [], "files": files}}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/graphql":
            asked = json.loads(body)
            self._answer({"data": self.server.graphql(asked["query"], asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            self.server.file_stream(self.path.split("/")[-2], json.loads(body))
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def _project() -> dict[str, Any]:
    return {"id": "5", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}}
