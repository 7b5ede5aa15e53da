"""The rates of a run are those of the rule's formula, from what the run itself measured."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from eoc.training.callbacks import UpdateCosinesCallback
from support import NO_FIGURE, Run, trained

STEPS = 12
LENGTH = [NO_FIGURE, f"trainer.max_steps={STEPS}"]


def rates(run: Run) -> list[float]:
    """η_0 … η_{T−1}; the last row has none."""
    assert math.isnan(run.columns["lr"][-1])
    return run.columns["lr"][:-1]


@pytest.mark.parametrize("unit", ["inverse_sharpness", "absolute"])
def test_constant(unit: str, tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "schedule=constant", "schedule.rate=0.7", f"schedule.unit={unit}")
    scale = run.columns["sharpness"][0] if unit == "inverse_sharpness" else 1.0
    assert rates(run) == [0.7 / scale] * STEPS
    assert run.columns["sharpness"][0] != pytest.approx(run.columns["sharpness"][5])


def test_warmup(tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "schedule=warmup", "schedule.rate=1.5", "schedule.warmup_steps=5")
    full = 1.5 / run.columns["sharpness"][0]
    assert rates(run) == pytest.approx([full * min(1, (t + 1) / 5) for t in range(STEPS)])


def test_cosine_ends_with_the_run(tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "schedule=cosine", "schedule.rate=1.5", "schedule.final_fraction=0.1")
    full = 1.5 / run.columns["sharpness"][0]
    heights = [0.1 + 0.9 * (1 + math.cos(math.pi * t / STEPS)) / 2 for t in range(STEPS)]
    assert rates(run) == pytest.approx([full * height for height in heights])


def test_geometric_holds_the_product_at_kappa(tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "schedule.kappa=2.2")
    products = run.columns["lr_x_sharpness"][:-1]
    assert products == pytest.approx([2.2] * STEPS, rel=1e-12)
    sharpness = run.columns["sharpness"]
    assert max(sharpness) > 1.5 * min(sharpness)


def test_geometric_with_interval_smoothing_and_cooldown(tmp_path: Path) -> None:
    overrides = ["schedule.kappa=2.4", "schedule.interval=3", "schedule.smoothing=2", "schedule.cooldown=0.5"]
    run = trained(tmp_path, *LENGTH, *overrides, "schedule.cooldown_kappa=0.6")
    sharpness = run.columns["sharpness"]
    expected = []
    for t in range(STEPS):
        probes = [sharpness[s] for s in range(0, t + 1, 3)][-2:]
        kappa = 2.4 if t < 6 else 2.4 + (0.6 - 2.4) * (t - 5) / 6
        expected.append(kappa * len(probes) / sum(probes))
    assert rates(run) == pytest.approx(expected, rel=1e-12)
    # the product that is logged is the true one, with λ_t of the step itself
    assert run.columns["lr_x_sharpness"][:-1] == [r * s for r, s in zip(rates(run), sharpness[:-1], strict=True)]


def test_geometric_keeps_to_its_bounds(tmp_path: Path) -> None:
    free = rates(trained(tmp_path / "free", *LENGTH))
    low, high = sorted(free)[3], sorted(free)[8]
    bounded = trained(tmp_path / "bounded", *LENGTH, f"schedule.min_rate={low}", f"schedule.max_rate={high}")
    sharpness = bounded.columns["sharpness"][:-1]
    assert rates(bounded) == pytest.approx([min(max(2.5 / value, low), high) for value in sharpness], rel=1e-12)
    assert {low, high} <= set(rates(bounded))


def test_geometric_from_the_critical_sharpness(tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "schedule.source=critical", "schedule.kappa=0.5")
    critical = run.columns["critical/sharpness"][:-1]
    assert rates(run) == [0.5 / value for value in critical]
    data, network = run.module.dataset, run.module.network

    def loss(weights: list[torch.Tensor]) -> torch.Tensor:
        h = data.train_inputs.double() @ weights[0].T * network.forward_factors[0]
        for weight, factor in zip(weights[1:], network.forward_factors[1:], strict=True):
            h = h.relu() @ weight.T * factor
        return 0.5 * (h - data.train_targets).square().sum() / len(h)

    for start, value in zip(run.path, critical, strict=False):
        weights = [weight.double().requires_grad_() for weight in start]
        direction = [g * d for g, d in zip(network.rates, torch.autograd.grad(loss(weights), weights), strict=True)]
        moved = [loss([w - c * 2 / value * d for w, d in zip(weights, direction, strict=True)]) for c in (0.96, 1.04)]
        assert moved[0] < loss(weights) < moved[1]  # the bracket is 5% wide
    losses = run.columns["train/loss"]
    assert all(after < before for before, after in pairwise(losses))  # 0.5 < 2: a step stops short of the rise
    assert run.columns["sharpness"][:-1] != pytest.approx(critical, rel=0.1)  # λ itself is measured beside it


@pytest.mark.parametrize("extra", [[], ["curvature.examples=30"], ["curvature.chunk_size=17"]])
def test_bare_training_by_the_critical_sharpness_needs_no_product(extra: list[str], tmp_path: Path) -> None:
    words = ["callbacks=none", "schedule.source=critical", "schedule.interval=3", f"trainer.max_steps={STEPS}", *extra]
    columns = trained(tmp_path, *words).columns
    known = {t for t, value in enumerate(columns["critical/sharpness"]) if not math.isnan(value)}
    assert known == {0, 3, 6, 9}
    assert not any(name.startswith(("sharpness", "hessian")) for name in columns)
    assert max(columns["critical/evaluations"][3:10:3]) < 12


def test_alignment_follows_the_cosine_of_the_true_updates(tmp_path: Path) -> None:
    overrides = ["schedule=alignment", "schedule.gain=0.3", "schedule.target=-0.1"]
    run = trained(tmp_path, *LENGTH, *overrides, "dataset.batch_size=20")
    metric = [math.sqrt(g) for g in run.module.network.rates]
    flat = [torch.cat([w.flatten().double() / g for w, g in zip(weights, metric, strict=True)]) for weights in run.path]
    expected, cosines = [1.0 / run.columns["sharpness"][0]], []
    for t in range(STEPS - 1):
        moved = 0.0
        if t > 0:  # at step 0 there is no cumulative update yet, and the rate stays
            cosine = torch.cosine_similarity(flat[t + 1] - flat[t], flat[t] - flat[0], dim=0).item()
            cosines.append(cosine)
            moved = 0.3 * (cosine + 0.1)
        expected.append(expected[-1] * math.exp(moved))
    assert rates(run) == pytest.approx(expected, rel=1e-5)
    assert expected[1] == expected[0]
    # The callback writes what the schedule was told, and keeps no copies of its own.
    assert run.columns["cosine/cumulative/all"][1 : STEPS - 1] == pytest.approx(cosines, rel=1e-5)
    (callback,) = (each for each in run.module.trainer.callbacks if isinstance(each, UpdateCosinesCallback))
    assert callback.cosines is run.module.schedules_cosines()
    assert len(set(expected)) == STEPS - 1


@pytest.mark.parametrize(
    ("overrides", "probed"),
    [
        (["schedule=geometric", "schedule.interval=5"], {0, 5, 10}),
        (["schedule=constant"], {0}),
        (["schedule=alignment"], {0}),
        (["schedule=constant", "schedule.unit=absolute"], set()),
    ],
    ids=["geometric", "constant", "alignment", "absolute"],
)
def test_bare_training_probes_only_what_the_rule_asks_for(
    overrides: list[str], probed: set[int], tmp_path: Path
) -> None:
    columns = trained(tmp_path, "callbacks=none", f"trainer.max_steps={STEPS}", *overrides).columns
    sharpness = columns.get("sharpness", [math.nan] * (STEPS + 1))
    assert {t for t, value in enumerate(sharpness) if not math.isnan(value)} == probed


def test_a_layers_rate_is_the_global_one_times_its_factor(tmp_path: Path) -> None:
    run = trained(tmp_path, *LENGTH, "model=sp", "model.width=8", "schedule=constant")
    groups = run.module.trainer.optimizers[0].param_groups
    assert [group["lr"] for group in groups] == [rates(run)[-1] * g for g in run.module.network.rates]
    assert len(set(run.module.network.rates)) > 1
