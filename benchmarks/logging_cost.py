"""What logging costs: ``python benchmarks/logging_cost.py``.

Runs the main job at its default cadence and prints what its loggers compute, in their calls and in W&B's own thread,
and what it takes to start W&B once a process, as shares of all that the job computes (processor time: other programs on
the machine do not count), and how long the run waits for W&B at its end. Then prints the cost of a row of 60 values,
logged at every step, for each logger. Ends with a JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from eoc.tracking import wandb_log
from eoc.tracking.courier import Courier
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.tensorboard_log import TensorBoardLog
from eoc.tracking.wandb_log import WandbLog
from eoc.training.run import run

CONF = str(Path(__file__).resolve().parents[1] / "conf")
CALLS = ("log_hyperparams", "log_metrics", "log_image", "log_summary", "finish")


def composed(folder: Path) -> Any:
    """The main job's config, its run in a folder of its own."""
    with initialize_config_dir(CONF, version_base="1.3"):
        words = [f"paths.root={folder}", "logger.wandb.mode=offline"]
        config = compose("config", overrides=words, return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder / "run")
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return config


@contextmanager
def watched_courier(note: Callable[[bool, float], None]) -> Iterator[None]:
    """Tell ``note`` of every errand of W&B's thread: whether it belongs to its start, and the seconds it computed."""
    work = Courier._run

    def working(self: Courier, errand: Any, seconds: float) -> None:
        start = time.thread_time()
        work(self, errand, seconds)
        note(getattr(errand, "__name__", "") in ("_import", "_open"), time.thread_time() - start)

    with patch.object(Courier, "_run", working):
        yield


def main_job(folder: Path) -> dict[str, float]:
    """Seconds of the main job: passed, computed, of these in its loggers, and waited at the end."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Any) -> Any:
        def timing(*args: Any, **kwargs: Any) -> Any:
            start, computed = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                spent["calls"] += time.thread_time() - computed
                spent["end"] += time.perf_counter() - start if name == "finish" else 0.0

        return timing

    def note(starting: bool, seconds: float) -> None:
        spent["thread, start" if starting else "thread, rows"] += seconds

    load = wandb_log._import

    def _import() -> None:
        start = time.thread_time()
        load()
        seconds = time.thread_time() - start
        spent["import"] += seconds
        spent["calls"] -= seconds  # in one of which it happens

    with watched_courier(note), patch.object(wandb_log, "_import", _import):
        for kind in (CSVLog, WandbLog):
            for name in CALLS:
                if name in vars(kind):
                    setattr(kind, name, timed(name, getattr(kind, name)))
        start, computed = time.perf_counter(), time.process_time()
        run(composed(folder))
        spent["passed"], spent["computed"] = time.perf_counter() - start, time.process_time() - computed
    return dict(spent)


def row(log: Any, steps: int, values: int) -> float:
    """Median seconds that a run waits for one row, each step taking 5 ms besides."""
    waits = []
    for step in range(steps):
        metrics = {f"metric/layer_{index}": 1.0 / (1 + step + index) for index in range(values)}
        start = time.perf_counter()
        log.log_metrics(metrics, step=step)
        waits.append(time.perf_counter() - start)
        time.sleep(0.005)
    return statistics.median(waits)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="rows per logger (default: %(default)s)")
    parser.add_argument("--values", type=int, default=60, help="values per row (default: %(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent = main_job(folder)
        errands: list[float] = []
        with watched_courier(lambda starting, seconds: errands.append(seconds)):  # noqa: ARG005
            logs = {
                "CSV": CSVLog(str(folder / "csv")),
                "W&B": WandbLog(project="eoc", mode="offline", root=str(folder)),
                "TensorBoard": TensorBoardLog(str(folder / "tensorboard")),
            }
            rows = {}
            for title, log in logs.items():
                rows[title] = row(log, chosen.steps, chosen.values)
                log.finalize("success")
            logs["W&B"].finish()
        rows["W&B's thread"] = statistics.median(errands)
    logging = spent["calls"] + spent["thread, rows"]
    once = spent["import"] + spent["thread, start"]
    print(f"main job: {spent['passed']:.2f} s passed, {spent['computed']:.2f} s computed, of these")
    for what, seconds in (
        ("in the loggers' calls", spent["calls"]),
        ("in W&B's thread, rows", spent["thread, rows"]),
        ("logging, both", logging),
        ("once a process: W&B's import", spent["import"]),
        ("once a process: W&B's start", spent["thread, start"]),
        ("once a process, both", once),
    ):
        print(f"  {what:<30} {seconds:.3f} s  {seconds / spent['computed']:.2%}")
    print(f"waited at the end: {spent['end']:.3f} s")
    print(f"a row of {chosen.values} values, {chosen.steps} of them, median:")
    for title, seconds in rows.items():
        print(f"  {title:<13} {1e3 * seconds:.3f} ms")
    print(json.dumps({"main job": spent, "row": rows, "machine": platform.processor() or platform.machine()}))


if __name__ == "__main__":
    main()
