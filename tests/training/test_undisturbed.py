"""Callbacks change nothing, and the module is gradient descent: both bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eoc.data import Batches
from eoc.training.module import EdgeOfChaosModule
from support import EVERY_STEP, NO_FIGURE, Run, trained

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "constant": ["schedule=constant"],
    "cosine": ["schedule=cosine", "schedule.warmup_steps=2"],
    "geometric": ["schedule=geometric", "schedule.interval=3", "schedule.smoothing=2"],
    "geometric, minibatches": ["schedule=geometric", "dataset.batch_size=13"],
    "warmup, momentum": ["schedule=warmup", "schedule.warmup_steps=4", "optimizer=momentum"],
    "alignment, minibatches, momentum": ["schedule=alignment", "dataset.batch_size=13", "optimizer=momentum"],
    "critical": ["schedule=geometric", "schedule.source=critical", "schedule.kappa=0.5"],
    "cross_entropy": ["schedule=geometric", "loss=cross_entropy"],
}


def global_random_states() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return (torch.get_rng_state().tolist(), kind, keys.tolist(), *rest)


def seeded(folder: Path, *overrides: str) -> tuple[Run, tuple[Any, ...]]:
    np.random.seed(3)  # noqa: NPY002
    return trained(folder, *overrides), global_random_states()


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_callbacks_disturb_nothing(overrides: list[str], tmp_path: Path) -> None:
    figure = [] if overrides == CASES["constant"] else [NO_FIGURE]
    watched, random_then = seeded(tmp_path / "all", *overrides, *EVERY_STEP, *figure)
    bare, random_bare = seeded(tmp_path / "none", *overrides, "callbacks=none")
    assert len(watched.path) == len(bare.path) == 9
    for one, other in zip(watched.path, bare.path, strict=True):
        assert_same(one, other)
    assert not torch.equal(bare.path[0][0], bare.path[-1][0])
    gradients = [[weight.grad for weight in run.module.network.weights] for run in (watched, bare)]
    assert_same(*gradients)
    assert random_then == random_bare
    assert watched.columns["lr"] == pytest.approx(bare.columns["lr"], rel=0, abs=0, nan_ok=True)
    assert not any(weight.requires_grad is False for weight in watched.module.network.weights)


def test_a_run_leaves_the_random_states_that_it_found(tmp_path: Path) -> None:
    # In a process of its own: the shape checks of a test run draw from Python's random numbers.
    script = """
import random, sys
from pathlib import Path
import numpy, torch
from eoc.training.random_state import seed_all
from support import EVERY_STEP, trained

seed_all(0)  # what a run of seed 0 begins with
before = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()
trained(Path(sys.argv[1]), *EVERY_STEP)
assert before[0] == torch.get_rng_state().tolist()
assert before[1] == numpy.random.get_state()[1].tolist()
assert before[2] == random.getstate()
"""
    places = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def gradient_descent(
    module: EdgeOfChaosModule, start: list[Tensor], rates: list[float], momentum: float = 0.0
) -> list[Tensor]:
    """Heavy-ball gradient descent with rates η_t·g_k, in nothing but torch."""
    data, network = module.dataset, module.network
    batches = Batches(data.train_inputs, data.train_targets, data.train_labels, data.batch_size, module.seed)
    weights = [weight.clone().requires_grad_() for weight in start]
    velocities = [torch.zeros_like(weight) for weight in weights]
    for step, rate in enumerate(rates):
        inputs, targets, _ = batches.at(step)
        h = inputs @ weights[0].T * network.forward_factors[0]
        for weight, factor in zip(weights[1:], network.forward_factors[1:], strict=True):
            h = h.relu() @ weight.T * factor
        loss = 0.5 * (h - targets).square().sum() / len(inputs)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, velocity, gradient, g in zip(weights, velocities, gradients, network.rates, strict=True):
                velocity.mul_(momentum).add_(gradient)
                weight.add_(velocity, alpha=-rate * g)
    return weights


@pytest.mark.parametrize(
    ("overrides", "momentum"),
    [
        ((), 0.0),
        (("dataset.batch_size=13",), 0.0),
        (("optimizer=momentum", "optimizer.momentum=0.8"), 0.8),
        (("model=sp", "model.width=8", "schedule=constant", "schedule.rate=0.01", "schedule.unit=absolute"), 0.0),
    ],
    ids=["full batch", "minibatches", "momentum", "sp"],
)
def test_training_is_gradient_descent_by_hand(overrides: tuple[str, ...], momentum: float, tmp_path: Path) -> None:
    run = trained(tmp_path, *overrides, "callbacks=none")
    rates = run.columns["lr"][:-1]
    by_hand = gradient_descent(run.module, run.path[0], rates, momentum)
    assert_same(by_hand, run.path[-1])
