"""How long a run waits for W&B: ``python benchmarks/logging_waits.py``.

Runs the main job at its default cadence, W&B offline, with every call of its logger timed inside the run. Less noisy
than whole commands in pairs (``logging_cost.py``), which also see what W&B's processes take of caches and memory.
"""

from __future__ import annotations

import argparse
import atexit
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from environment import environment
from logging_cost import LOGGERS, MAIN_JOB, PROGRAM
from publication import publish

from eoc.tracking.wandb_log import WandbLog

PAGE = "dashboards.md"
PARTS = {
    "start": ("__init__", "resume", "log_hyperparams"),
    "rows": ("log_metrics", "save"),
    "end": ("log_image", "log_summary", "finish"),
}


class Stopwatch:
    """Seconds spent in the calls of a class, by part; what one of them calls itself counts as its own."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._running = False

    def hold(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, timed."""

        @wraps(call)
        def timed(*args: Any, **named: Any) -> Any:
            if self._running:
                return call(*args, **named)
            self._running, start = True, time.perf_counter()
            try:
                return call(*args, **named)
            finally:
                self._running = False
                self.seconds[part] += time.perf_counter() - start

        return timed


def watch(target: str, words: list[str]) -> None:
    """Run the program in this process, and write at its end what it waited for, and how long it took."""
    start, stopwatch = time.perf_counter(), Stopwatch()
    for part, names in PARTS.items():
        for name in names:
            setattr(WandbLog, name, stopwatch.hold(part, getattr(WandbLog, name)))
    atexit.register(
        lambda: Path(target).write_text(json.dumps({**stopwatch.seconds, "all": time.perf_counter() - start}))
    )
    sys.argv = [str(PROGRAM), *words]
    runpy.run_path(str(PROGRAM), run_name="__main__")


def watched() -> dict[str, float]:
    """Seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/seconds.json"
        words = (*MAIN_JOB, *LOGGERS["W&B offline"], f"paths.root={folder}", f"hydra.run.dir={folder}/run")
        done = subprocess.run([sys.executable, __file__, "--watch", target, *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(Path(target).read_text())


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="runs of the main job (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write it into docs/ and beside this file as well")
    chosen = parser.parse_args()
    runs = [watched() for _ in range(chosen.runs)]
    sums = [sum(run[part] for part in PARTS) for run in runs]
    result = {
        **{name: statistics.median(run[name] for run in runs) for name in (*PARTS, "all")},
        "waited": statistics.median(sums),
        "waited, most": max(sums),
        "runs": chosen.runs,
        **environment(),
    }
    print(sentence(result))
    print(json.dumps(result))
    if chosen.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """As the page shows them."""
    return {"logging_waits": sentence(result)}


def sentence(result: dict[str, Any]) -> str:
    """What the run waits for."""
    return (
        f"Timed inside the run, calls of W&B's logger take {result['waited']:.3f} s of the main job's "
        f"{result['all']:.1f} s, {result['waited'] / result['all']:.2%} (medians of {result['runs']} runs, at most "
        f"{result['waited, most']:.3f} s): {result['start']:.3f} s at its start, {result['rows']:.3f} s for its rows, "
        f"{result['end']:.3f} s at its end."
    )


if __name__ == "__main__":
    main()
