"""A page to browse runs in, without account or network: ``python -m eoc.analysis report FOLDER``.

One file with everything in it: the curves of one run, or of all runs below a folder laid over each other.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

from eoc.analysis.comparison import comparison
from eoc.analysis.panels import colours_of, figures
from eoc.analysis.run_data import MOST, RunData, differing, read_all
from eoc.analysis.summary_figure import NAMES
from eoc.errors import InvalidInput, integer

PAGE = Path(__file__).resolve().parent / "page"
REPORT = "report.html"
FINALS = {
    "train/loss": "train loss",
    "test/loss": "test loss",
    "test/accuracy": "test accuracy",
    "sharpness": "λ",
    "lr_x_sharpness": "η·λ",
}
OUTCOME = ("status", "steps", "parameters", "wall_seconds", "device", "dtype", "unconverged_probes", "versions", "git")
SHOWN = 8  # settings in which runs differ, in the table


def render(folder: Path | str) -> str:
    """Return the page of a run folder, or of all run folders below one.

    Raises:
        InvalidInput: if no run lies there.
    """
    from plotly.offline import get_plotlyjs

    folder = Path(folder)
    runs = read_all(folder)
    differ = differing(runs)
    sections = [{"title": title, "figures": drawn} for title, drawn in figures(runs)]
    compared, remark = comparison(runs)
    if compared:
        sections.append({"title": "Comparison by depth", "remark": remark, "figures": compared})
    data = {
        "runs": [_run(run, colour) for run, colour in zip(runs, colours_of(runs), strict=True)],
        "finals": list(FINALS.values()),
        "differing": differ[:SHOWN] if len(differ) > MOST else [],  # else the labels tell them
        "sections": sections,
    }
    diverged = sum(run.diverged_at is not None for run in runs)
    failed = sum(run.failure is not None for run in runs)
    unfinished = sum(run.status == "unfinished" for run in runs)
    found = ((failed, "failed"), (diverged, "diverged"), (unfinished, "unfinished"))
    counts = [f"{count} {word}" for count, word in found if count]
    return Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(_title(runs)),
        subtitle=html.escape(": ".join([str(folder), *([", ".join(counts)] if counts else [])])),
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        script=(PAGE / "page.js").read_text(encoding="utf-8"),
        data=_json(data),
        plotly=get_plotlyjs(),
    )


def write_report(folder: Path | str, output: Path | str | None = None) -> Path:
    """Write the page, by default as ``report.html`` into the folder, and return its path.

    Raises:
        InvalidInput: if no run lies there.
    """
    path = Path(folder) / REPORT if output is None else Path(output)
    path.write_text(render(folder), encoding="utf-8", errors="replace")
    return path


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server on the loopback device whose one page is drawn anew whenever it is asked for.

    Raises:
        InvalidInput: if the port is taken, or may not be used.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                content = render(folder)
            except InvalidInput as error:
                content = f"<!doctype html><meta charset='utf-8'><p>{html.escape(str(error))}</p>"
            body = content.encode(errors="replace")
            with suppress(ConnectionError):  # the tab was closed meanwhile
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidInput("port", port, f"{reason}; name another one, or 0 for any free one") from error


def main(words: list[str] | None = None) -> int:
    """Write the page of a folder, or serve it."""
    parser = argparse.ArgumentParser(prog="python -m eoc.analysis report", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {REPORT} in the folder")
    parser.add_argument("--serve", action="store_true", help="serve it on this machine instead")
    parser.add_argument("--port", type=int, default=8642, help="0: any free one (default: %(default)s)")
    chosen = parser.parse_args(words)
    try:
        if not chosen.serve:
            print(write_report(chosen.folder, chosen.output))
            return 0
        with server(chosen.folder, integer("port", chosen.port, minimum=0, maximum=65535)) as serving:
            address = f"http://127.0.0.1:{serving.server_port}/"
            print(f"{address} shows {chosen.folder}; reload it to see what runs have added; Ctrl-C ends it", flush=True)
            serving.serve_forever()
    except KeyboardInterrupt:
        print()
    except (InvalidInput, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(run: RunData, colour: str) -> dict[str, Any]:
    return {
        "label": run.label,
        "folder": str(run.folder),
        "colour": colour,
        "status": run.status,
        "bad": run.diverged_at is not None or run.failure is not None,
        "steps": run.steps,
        "finals": {title: run.final(name) for name, title in FINALS.items()},
        "settings": run.settings,
        "outcome": {f"summary.{key}": run.summary[key] for key in OUTCOME if key in run.summary},
    }


def _title(runs: list[RunData]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs"
    settings = runs[0].settings
    rule = settings.get("model", runs[0].folder.name)
    told = [f"{key.rpartition('.')[2]} {settings[key]}" for key in ("model.depth", "seed") if key in settings]
    return ", ".join([NAMES.get(rule, rule), *told])


def _json(data: Any) -> str:
    """JSON that cannot end the script element it lies in; what is not finite becomes null."""

    def finite(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: finite(value) for key, value in node.items()}
        if isinstance(node, list):
            return [finite(value) for value in node]
        return None if isinstance(node, float) and not math.isfinite(node) else node

    return json.dumps(finite(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


if __name__ == "__main__":
    sys.exit(main())
