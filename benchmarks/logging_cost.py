"""What logging costs: ``python benchmarks/logging_cost.py`` (Linux).

Runs the main job at its default cadence as a whole command, with W&B offline and with metrics.csv alone in turn, and
prints what W&B adds to the time that passes and to the processor time of all processes, its own included, which
outlive a command and are waited for; and the same for a run of one step, which is what starting W&B costs. Then prints
what a row of 60 values costs, logged at every step, for each logger. Ends with a JSON line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from environment import environment
from publication import publish

from eoc.tracking.courier import Courier
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.tensorboard_log import TensorBoardLog
from eoc.tracking.wandb_log import WandbLog

PAGE = "dashboards.md"
PROGRAM = Path(__file__).resolve().parents[1] / "train.py"
MAIN_JOB = ("model=nup", "schedule=geometric")
ADOPT = 36  # PR_SET_CHILD_SUBREAPER: what a command leaves behind becomes this process's child
LOGGERS = {"W&B offline": ("logger=wandb", "logger.wandb.mode=offline"), "CSV": ("logger=csv",)}


def whole_command(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds that pass from the start of a command to its end, and that it and its children compute."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(PROGRAM), *MAIN_JOB, *words, f"paths.root={folder}", f"hydra.run.dir={folder}/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    passed = time.perf_counter() - start
    with suppress(ChildProcessError):  # none is left
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def added(pairs: int, *words: str) -> dict[str, dict[str, float]]:
    """Medians over pairs of commands: seconds with each logger, and what W&B adds to those of CSV."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LOGGERS}
    for number in range(pairs + 1):
        for name, logger in list(LOGGERS.items())[:: 1 if number % 2 else -1]:  # neither is always the first
            with tempfile.TemporaryDirectory() as folder:
                seconds = whole_command(Path(folder), *logger, *words)
            if number:  # the first pair finds nothing in the system's cache
                found[name].append(seconds)
    result = {}
    for index, kind in enumerate(("passed", "computed")):
        with_wandb, without = ([seconds[index] for seconds in found[name]] for name in LOGGERS)
        more = [a - b for a, b in zip(with_wandb, without, strict=True)]
        result[kind] = {
            "W&B": statistics.median(with_wandb),
            "CSV": statistics.median(without),
            "added": statistics.median(more),
            "added, interval": interval(more),
        }
    return result


def interval(values: list[float]) -> tuple[float, float]:
    """Order statistics between which the median of their distribution lies with at least 95% probability.

    Whatever the distribution: each value lies below its median with probability 1/2. The whole range below six values.
    """
    count, rank, missed = len(values), 0, 2.0 ** -len(values)
    while missed + math.comb(count, rank + 1) / 2**count <= 0.025:  # the chance that the median is below this one
        rank += 1
        missed += math.comb(count, rank) / 2**count
    return sorted(values)[rank], sorted(values)[count - 1 - rank]


def rows(log: Any, steps: int, values: int) -> float:
    """Median seconds that a run waits for one row, each step taking 5 ms besides."""
    waits = []
    for step in range(steps):
        metrics = {f"metric/layer_{index}": 1.0 / (1 + step + index) for index in range(values)}
        start = time.perf_counter()
        log.log_metrics(metrics, step=step)
        waits.append(time.perf_counter() - start)
        time.sleep(0.005)
    return statistics.median(waits)


def row_costs(steps: int, values: int) -> dict[str, float]:
    """Seconds of one row: that a run waits for each logger, that its thread for W&B computes, and that W&B's takes."""
    computed: list[float] = []
    answered: list[float] = []
    work = Courier._run

    def working(self: Courier, errand: Any, seconds: float) -> None:
        start = time.thread_time(), time.perf_counter()
        work(self, errand, seconds)
        if "_send_rows" in getattr(errand, "__qualname__", ""):
            computed.append(time.thread_time() - start[0])
            answered.append(time.perf_counter() - start[1])

    with tempfile.TemporaryDirectory() as name, patch.object(Courier, "_run", working):
        folder = Path(name)
        logs = {
            "CSV": CSVLog(str(folder / "csv")),
            "W&B": WandbLog(project="eoc", mode="offline", root=str(folder)),
            "TensorBoard": TensorBoardLog(str(folder / "tensorboard")),
        }
        waited = {}
        for title, log in logs.items():
            waited[title] = rows(log, steps, values)
            log.finalize("success")
        logs["W&B"].finish()
    return waited | {"thread for W&B": sum(computed) / steps, "W&B's process": sum(answered) / steps}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of commands (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="rows per logger (default: %(default)s)")
    parser.add_argument("--values", type=int, default=60, help="values per row (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write it into docs/ and beside this file as well")
    chosen = parser.parse_args()
    ctypes.CDLL(None).prctl(ADOPT, 1, 0, 0, 0)
    commands = {
        "main job": added(chosen.pairs),
        "one step": added(chosen.pairs, "callbacks=none", "trainer.max_steps=1"),
    }
    for name, costs in commands.items():
        print(f"{name}, medians of {chosen.pairs} pairs of whole commands:")
        for kind, cost in costs.items():
            print(
                f"  s {kind:<9} with metrics.csv alone {cost['CSV']:.2f}, "
                f"added by W&B {cost['added']:.2f} {spread(cost)}, {cost['added'] / cost['CSV']:.1%}"
            )
    costs = row_costs(chosen.steps, chosen.values)
    print(f"a row of {chosen.values} values, {chosen.steps} of them:")
    for title, seconds in costs.items():
        print(f"  {title:<13} {1e3 * seconds:.3f} ms")
    settings = {"pairs": chosen.pairs, "steps": chosen.steps, "values": chosen.values, "wandb": version("wandb")}
    result = {**commands, "row": costs, **settings, **environment()}
    print(json.dumps(result))
    if chosen.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """As the page shows them."""
    return {"logging_cost": commands_table(result), "logging_rows": sentence(result)}


def spread(cost: dict[str, Any]) -> str:
    """The interval of what is added."""
    return "[{:.2f}, {:.2f}]".format(*cost["added, interval"])


def commands_table(result: dict[str, Any]) -> str:
    """What W&B adds to whole commands."""

    def row(name: str, command: str, entry: str) -> str:
        cells = []
        for kind in ("passed", "computed"):
            cost = result[command][kind]
            part = f" {spread(cost)}, {cost[entry] / cost['CSV']:.1%}" if entry == "added" else ""
            cells.append(f"{cost[entry]:.2f} s{part}".replace("-", "−"))
        return f"| {name} | {cells[0]} | {cells[1]} |"

    return "\n".join(
        [
            f"{result['cores']} cores, {result['processor']}, torch {result['torch']}, wandb {result['wandb']};",
            f"medians of {result['pairs']} pairs, W&B's processes included:",
            "",
            "| | time that passes | processor time |",
            "|---|---|---|",
            row("main job, metrics.csv alone", "main job", "CSV"),
            row("added by W&B [95% interval of the median]", "main job", "added"),
            row("a run of one step, metrics.csv alone", "one step", "CSV"),
            row("added by W&B: starting it, once a process [95% interval of the median]", "one step", "added"),
        ]
    )


def sentence(result: dict[str, Any]) -> str:
    """What a row costs."""
    wait = {name: 1e3 * seconds for name, seconds in result["row"].items()}
    own, there = wait["W&B"] + wait["thread for W&B"], wait["W&B's process"]
    return (
        f"A row of {result['values']} values, logged at every step, takes {there:.2f} ms in W&B's "
        f"process and {own:.3f} ms in the run's, which itself waits {wait['W&B']:.3f} ms for W&B, {wait['CSV']:.3f} ms "
        f"for metrics.csv, {wait['TensorBoard']:.3f} ms for TensorBoard. 300 such rows, as many as the main job has "
        f"steps, take {0.3 * own:.3f} s of the training process, "
        f"{0.3 * own / result['main job']['passed']['CSV']:.2%} of its time."
    )


if __name__ == "__main__":
    main()
