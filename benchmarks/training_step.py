"""What a training step costs over a hand-written loop on the same tensors: ``python benchmarks/training_step.py``.

Both take the same full-batch gradient steps at a constant rate, callbacks off, ``metrics.csv`` written at every
step, on as many threads as the program takes. Beside them Lightning's own loop takes them, bare: nothing measured or
written. All are timed in turns in one process. Prints the medians and ratios, and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from environment import environment
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from publication import publish
from pytorch_lightning import LightningModule
from pytorch_lightning.profilers import PassThroughProfiler
from torch.utils.data import DataLoader

from eoc.training.build import build_callbacks, build_dataset, build_loggers, build_module, build_trainer
from eoc.training.memory import keep_freed_memory, set_apart
from eoc.training.run import quiet
from eoc.training.threads import few_threads

PAGE = "dashboards.md"
RATE = 0.1


def lightning_seconds(config, dataset, folder: str) -> tuple[float, torch.device]:
    """Seconds per step of the program's own loop, and where it ran."""
    with open_dict(config):
        config.logger.csv.folder = folder
    module = build_module(config, dataset)
    callbacks = build_callbacks(config)
    trainer = build_trainer(config, callbacks, build_loggers(config))
    marks: list[float] = []
    take = module.training_step

    def marked(*args) -> None:
        take(*args)
        if len(marks) == 0 or module.step == module.trainer.max_steps - 1:
            marks.append(ready())

    module.training_step = marked
    trainer.fit(module)
    return (marks[-1] - marks[0]) / (trainer.max_steps - 1), trainer.strategy.root_device


class Bare(LightningModule):
    """The same steps in Lightning's loop, and nothing else."""

    def __init__(self, config, dataset) -> None:
        super().__init__()
        module = build_module(config, dataset)
        self.network, self.loss = module.network, module.loss
        self.inputs, self.targets = dataset.train_inputs, dataset.train_targets
        self.marks: list[float] = []

    def on_fit_start(self) -> None:
        self.inputs, self.targets = self.inputs.to(self.device), self.targets.to(self.device)

    def training_step(self, *_) -> torch.Tensor:
        return self.loss(self.network(self.inputs), self.targets)

    def on_train_batch_end(self, *_) -> None:
        if self.trainer.global_step in (1, self.trainer.max_steps):
            self.marks.append(ready())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        pairs = zip(self.network.weights, self.network.rates, strict=True)
        return torch.optim.SGD([{"params": [a], "lr": RATE * g} for a, g in pairs])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(range(self.trainer.max_steps), batch_size=None)


def bare_seconds(config, dataset) -> float:
    """Seconds per step of Lightning's loop alone."""
    module, trainer = Bare(config, dataset), build_trainer(config, [], [])
    trainer.profiler = PassThroughProfiler()  # as Lightning has it
    trainer.fit(module)
    return (module.marks[-1] - module.marks[0]) / (trainer.max_steps - 1)


def hand_written_seconds(config, dataset, steps: int, device: torch.device) -> float:
    """Seconds per step of ten lines of torch."""
    module = build_module(config, dataset)
    network, loss_function, dataset = module.network.to(device), module.loss, dataset.to(device, torch.float32)
    groups = [{"params": [a], "lr": RATE * g} for a, g in zip(network.weights, network.rates, strict=True)]
    optimizer = torch.optim.SGD(groups)
    start = ready()
    for step in range(steps):
        if step == 1:
            start = ready()
        optimizer.zero_grad()
        loss = loss_function(network(dataset.train_inputs), dataset.train_targets)
        loss.backward()
        optimizer.step()
    return (ready() - start) / (steps - 1)


def ready() -> float:
    """The time when the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--publish", action="store_true", help="write it into docs/ and beside this file as well")
    parser.add_argument("overrides", nargs="*", help="of the config, such as model.depth=9 or trainer=gpu")
    arguments = parser.parse_args()
    quiet()
    set_apart()  # this and what follows as the program does
    keep_freed_memory()
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        fixed = ["callbacks=none", "logger=csv", "schedule=constant", "schedule.unit=absolute", f"schedule.rate={RATE}"]
        fixed.append(f"trainer.max_steps={arguments.steps}")
        config = compose("config", overrides=fixed + arguments.overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    dataset = build_dataset(config)
    parameters = sum(weight.numel() for weight in build_module(config, dataset).network.weights)
    ours, bare, theirs = [], [], []
    with few_threads(len(dataset.train_inputs), parameters):
        for _ in range(arguments.repeats):
            with tempfile.TemporaryDirectory() as folder:
                seconds, device = lightning_seconds(config, dataset, folder)
            ours.append(1e3 * seconds)
            bare.append(1e3 * bare_seconds(config, dataset))
            theirs.append(1e3 * hand_written_seconds(config, dataset, arguments.steps, device))
        where = environment(str(device))
    result = {
        "program_ms": statistics.median(ours),
        "lightning_ms": statistics.median(bare),
        "hand_written_ms": statistics.median(theirs),
        "difference_ms": statistics.median(a - b for a, b in zip(ours, theirs, strict=True)),
        "lightnings_difference_ms": statistics.median(a - b for a, b in zip(bare, theirs, strict=True)),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "overrides": arguments.overrides,
        **where,
    }
    print(tables(result)["training_step"])
    print(json.dumps(result))
    if arguments.publish:
        publish(__file__, result, tables(result), PAGE)


def tables(result: dict) -> dict[str, str]:
    """As the page shows it, a line of code."""
    line = (
        f"    one step: {result['program_ms']:.2f} ms here, {result['hand_written_ms']:.2f} ms by hand; in pairs "
        f"{result['difference_ms']:+.2f} ms, ratio {result['ratio']:.2f}, and Lightning's loop alone "
        f"{result['lightnings_difference_ms']:+.2f} ms ({result['processor']})"
    )
    return {"training_step": line}


if __name__ == "__main__":
    main()
