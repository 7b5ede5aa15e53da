"""A stand-in for W&B's server on the loopback device: it takes what a run sends and keeps it for tests to read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40  # of the form that W&B takes for an API key


class Server(ThreadingHTTPServer):
    """What was sent: `runs` holds, by id, what a run was declared as, `lines` what was streamed, `files` by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, dict[str, list[str]]] = {}  # run → streamed file → its lines
        self.files: dict[str, bytes] = {}
        self.exits: dict[str, int] = {}
        self.views: list[dict[str, Any]] = []  # saved workspaces
        self.asked: list[str] = []  # queries that it does not know


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        sent = json.loads(self.body())
        if "file_stream" in self.path:
            self.answer(self.stream(sent))
        else:
            self.answer({"data": self.query(sent["query"], sent.get("variables") or {})})

    def do_PUT(self) -> None:
        self.server.files[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def stream(self, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.path.split("/")[-2]
        for name, part in (sent.get("files") or {}).items():
            lines = self.server.lines.setdefault(run, {}).setdefault(name, [])
            lines[part["offset"] :] = part["content"]
        if sent.get("complete"):
            self.server.exits[run] = sent["exitcode"]
        return {}

    def query(self, text: str, given: dict[str, Any]) -> dict[str, Any]:
        bucket = {"id": "run", "name": given.get("name"), "project": {"name": "eoc", "entity": {"name": "me"}}}
        if "RunResumeStatus" in text:
            return {"model": {"bucket": self.known(given["name"])}}
        if "UpsertBucket" in text:
            run = self.server.runs.setdefault(given["name"], {})
            run.update({key: value for key, value in given.items() if value is not None})
            shown = {"displayName": run.get("displayName"), "sweepName": None, "historyLineCount": 0, "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, **shown}, "inserted": True}}
        if "CreateRunFiles" in text:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
        if "UpsertView2" in text:
            self.server.views.append(given)
            return {"upsertView": {"view": {"id": "view", "name": given["name"]}, "inserted": True}}
        if "viewer" in text:
            return {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        self.server.asked.append(text)
        return {}

    def known(self, run: str) -> dict[str, Any] | None:
        if run not in self.server.runs:
            return None
        lines = self.server.lines.get(run, {})
        history, events = lines.get("wandb-history.jsonl", []), lines.get("wandb-events.jsonl", [])
        return {
            "id": "run",
            "name": run,
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "logLineCount": 0,
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "summaryMetrics": lines.get("wandb-summary.json", ["{}"])[-1],
            "config": self.server.runs[run].get("config", "{}"),
            "wandbConfig": '{"t": 1}',
            "tags": [],
        }


@contextmanager
def serving() -> Iterator[Server]:
    """Serve inside."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
