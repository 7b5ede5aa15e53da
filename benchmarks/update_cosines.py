"""What the update cosines cost: ``python benchmarks/update_cosines.py --root FOLDER``, FOLDER with MNIST or to take it.

Trains 784-256-256-256-10 by full-batch descent on 1,000 MNIST images with the program's own loop, with the callback
update_cosines at every step and without it, in turns in one process. Prints the medians and their ratio, the memory
that the measurement keeps in copies of the weights, and a JSON line.

With one thread (the default) the clock is the process's CPU time, which other work on the machine disturbs least;
with more threads or ``trainer=gpu`` it is wall time (metrics.csv, written at every step, waits for the device).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from environment import environment
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from publication import publish

from eoc.data import Dataset
from eoc.training.build import build_callbacks, build_dataset, build_loggers, build_module, build_trainer
from eoc.training.callbacks import UpdateCosinesCallback
from eoc.training.memory import keep_freed_memory
from eoc.training.run import quiet

PAGE = "curvature.md"
NETWORK = [
    "model=mup",
    "model.depth=4",
    "model.width=256",
    "dataset=mnist",
    "dataset.n_train=1000",
    "dataset.n_test=10",
]
RULE = ["schedule=constant", "schedule.unit=absolute", "schedule.rate=0.01", "logger=csv"]


def composed(callbacks: str, arguments: argparse.Namespace) -> DictConfig:
    """The config of a run with these callbacks."""
    length = [f"trainer.max_steps={arguments.steps}", f"dataset.root={arguments.root}"]
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        words = [*NETWORK, *RULE, *length, f"callbacks={callbacks}", *arguments.overrides]
        config = compose("config", overrides=words, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def step_seconds(config: DictConfig, dataset: Dataset, clock) -> tuple[list[float], float]:
    """Seconds of every step but the first, and what the cosines keep, in copies of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        with open_dict(config):
            config.logger.csv.folder = folder
        module = build_module(config, dataset)
        callbacks = build_callbacks(config)
        trainer = build_trainer(config, callbacks, build_loggers(config))
        marks: list[float] = []
        begin = module.on_train_batch_start

        def marked(*args, **kwargs):
            marks.append(clock())
            return begin(*args, **kwargs)

        module.on_train_batch_start = marked
        trainer.fit(module)
    weights = sum(w.numel() * w.element_size() for w in module.network.weights)
    kept = 0
    for callback in callbacks:
        if isinstance(callback, UpdateCosinesCallback):
            kept = sum(t.numel() * t.element_size() for part in callback.state_dict().values() for t in part)
    return [after - before for before, after in pairwise(marks[1:])], kept / weights


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of MNIST, downloaded if it is not there")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--publish", action="store_true", help="write it into docs/ and beside this file as well")
    parser.add_argument("overrides", nargs="*", help="of the config, such as model.width=1024 or trainer=gpu")
    arguments = parser.parse_args()
    quiet()
    keep_freed_memory()  # as the program does
    torch.set_num_threads(arguments.threads)
    configs = {name: composed(name, arguments) for name in ("none", "update_cosines")}
    one_core = arguments.threads == 1 and configs["none"].trainer.accelerator == "cpu"
    clock = time.process_time if one_core else time.perf_counter
    dataset = build_dataset(configs["none"])
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    copies = 0.0
    for _ in range(arguments.repeats):
        for name, config in configs.items():
            times, kept = step_seconds(config, dataset, clock)
            seconds[name].append(statistics.median(times))
            copies = max(copies, kept)
    result = {
        "without_ms": 1e3 * statistics.median(seconds["none"]),
        "with_ms": 1e3 * statistics.median(seconds["update_cosines"]),
        "ratio": statistics.median(
            after / before for before, after in zip(seconds["none"], seconds["update_cosines"], strict=True)
        ),
        "copies_of_the_weights": copies,
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "overrides": arguments.overrides,
        **environment("cpu" if configs["none"].trainer.accelerator == "cpu" else "cuda"),
    }
    print(tables(result)["update_cosines"])
    print(json.dumps(result))
    if arguments.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict) -> dict[str, str]:
    """As the page shows it, a line of code."""
    line = (
        f"    one step: {result['with_ms']:.2f} ms with the cosines, {result['without_ms']:.2f} ms without, "
        f"ratio {result['ratio']:.3f}; {result['copies_of_the_weights']:.2f} copies of the weights kept "
        f"({result['processor']})"
    )
    return {"update_cosines": line}


if __name__ == "__main__":
    main()
