"""The critical sharpness beside the sharpness, and as the source of the geometric schedule: on digits, in every phase.

    python benchmarks/critical_sharpness.py

trains the main job's network (νP, 4 layers) by full-batch descent, holding rate times curvature at kappa, once with
the sharpness λ as the curvature and once with the critical sharpness λ_c, and measures both at every step. Prints the
two tables of docs/curvature.md, and puts them there with ``--publish``.
"""

from __future__ import annotations

import argparse
import math
import statistics
from itertools import pairwise

import torch
from environment import environment
from publication import publish

from eoc.data import digits
from eoc.dynamics.curvature import CurvatureTracker, HessianOperator, NonFiniteCurvature, critical_sharpness
from eoc.model import MLP, half_squared_error
from eoc.schedule import Geometric

PAGE = "curvature.md"
PHASES = {0.5: "stable", 1.5: "stable", 2.0: "edge of stability", 2.5: "catapult"}


def descend(source: str, kappa: float, steps: int) -> list[dict[str, float]]:
    """Train, and return what was measured at each step."""
    data = digits()
    network = MLP(data.dim, data.classes, parameterization="nup", depth=4, width=12, growth=2.0)
    weights, batches = list(network.weights), [(data.train_inputs, data.train_targets)]
    schedule, tracker, rows, guess = Geometric(kappa=kappa, source=source), CurvatureTracker(), [], None

    def loss_of(inputs, targets):
        return half_squared_error(network(inputs), targets)

    for step in range(steps):
        loss = loss_of(*batches[0])
        gradient = torch.autograd.grad(loss, weights)
        try:
            found = tracker.probe(HessianOperator(loss_of, weights, batches, network.rates))
        except NonFiniteCurvature:
            break
        direction = [rate * slope for rate, slope in zip(network.rates, gradient, strict=True)]
        if guess is None:  # a parabola above 0 is back at its start by 4 loss / slope
            guess = loss.item() / sum(4 * (d * g).sum().item() for d, g in zip(direction, gradient, strict=True))
        critical = critical_sharpness(loss_of, weights, direction, batches, guess)
        if critical.converged:
            guess = critical.rate
        sharpness = found.values[0].item()
        told = sharpness if source == "hessian" else critical.value if critical.lower > 0 else 0.0
        schedule.tell(step, sharpness=told)
        rate = schedule.rate(step)
        with torch.no_grad():
            for weight, d in zip(weights, direction, strict=True):
                weight -= rate * d
        rows.append(
            {
                "loss": loss.item(),
                "sharpness": sharpness,
                "critical": critical.value,
                "evaluations": critical.evaluations,
                "product": rate * sharpness,
            }
        )
    return rows


def spread(values: list[float]) -> list[float]:
    """5%, median and 95%."""
    cuts = statistics.quantiles(values, n=20)
    return [cuts[0], statistics.median(values), cuts[-1]]


def shown(cuts: list[float] | None, form: str) -> str:
    if cuts is None:
        return "–, the weights left the finite"
    low, middle, high = (f"{cut:{form}}" for cut in cuts)
    return f"{middle} [{low}, {high}]"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--publish", action="store_true", help="write them into docs/ and beside this file as well")
    given = parser.parse_args()
    runs = [
        {"source": source, "kappa": kappa, **summary(descend(source, kappa, given.steps), given.steps)}
        for source in ("hessian", "critical")
        for kappa in PHASES
    ]
    result = {"steps": given.steps, "runs": runs, "environment": environment()}
    print("\n\n".join(tables(result).values()))
    if given.publish:
        publish(__file__, result, tables(result), PAGE)


def summary(rows: list[dict[str, float]], steps: int) -> dict:
    """What the tables show of a run; ``product`` is missing where the weights left the finite."""
    losses = [row["loss"] for row in rows]
    whole = len(rows) == steps
    ratios = [row["critical"] / row["sharpness"] for row in rows if row["sharpness"]]  # 0: the network is dead
    alive = whole and len(ratios) == steps
    return {
        "ratio_early": spread(ratios[:20]) if alive else None,
        "ratio_late": spread(ratios[steps // 2 :]) if alive else None,
        "evaluations": statistics.median(row["evaluations"] for row in rows),
        "product": spread([row["product"] for row in rows[steps // 2 :]]) if whole else None,
        "product_largest": max(row["product"] for row in rows),
        "rose": statistics.mean(after > before for before, after in pairwise(losses)),
        "loss": losses[-1] if math.isfinite(losses[-1]) else None,
    }


def tables(result: dict) -> dict[str, str]:
    """As the page shows them."""
    return {"critical_sharpness_by_phase": by_phase(result), "critical_sharpness_as_source": as_source(result)}


def by_phase(result: dict) -> str:
    """λ_c/λ along the runs at η = κ/λ."""
    lines = ["| phase (η = κ/λ) | λ_c/λ, first 20 steps | λ_c/λ, second half | forward passes |", "|---|---|---|---|"]
    for run in result["runs"]:
        if run["source"] == "hessian":
            early, late = shown(run["ratio_early"], ".2g"), shown(run["ratio_late"], ".2g")
            phase = PHASES[run["kappa"]]
            lines.append(f"| {phase}, κ = {run['kappa']:g} | {early} | {late} | {run['evaluations']:g} |")
    return "\n".join(lines)


def as_source(result: dict) -> str:
    """What becomes of η·λ where the rate follows λ, and where it follows λ_c."""
    lines = [
        "| η = | κ | largest η·λ | η·λ, second half | steps at which the loss rose | last loss |",
        "|---|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        name = "κ/λ" if run["source"] == "hessian" else "κ/λ_c"
        held = shown(run["product"], ".2f")
        loss = "–" if run["loss"] is None else f"{run['loss']:.2g}"
        most, rose = f"{run['product_largest']:.3g}", f"{100 * run['rose']:.0f}%"
        lines.append(f"| {name} | {run['kappa']:g} | {most} | {held} | {rose} | {loss} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
