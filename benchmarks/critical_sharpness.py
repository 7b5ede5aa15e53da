"""The critical sharpness beside the sharpness, and as the source of the geometric schedule: on digits, in every phase.

    python benchmarks/critical_sharpness.py

trains the main job's network (νP, 4 layers) by full-batch descent, holding rate times curvature at kappa, once with
the sharpness λ as the curvature and once with the critical sharpness λ_c, and measures both at every step. Prints the
two tables of docs/curvature.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
from itertools import pairwise

import torch

from eoc.data import digits
from eoc.dynamics.curvature import CurvatureTracker, HessianOperator, NonFiniteCurvature, critical_sharpness
from eoc.model import MLP, half_squared_error
from eoc.schedule import Geometric

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


def spread(values: list[float], form: str = ".2f") -> str:
    """Median, and 5% and 95%."""
    cuts = statistics.quantiles(values, n=20)
    return f"{statistics.median(values):{form}} [{cuts[0]:{form}}, {cuts[-1]:{form}}]"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    runs = {(source, kappa): descend(source, kappa, steps) for source in ("hessian", "critical") for kappa in PHASES}
    print("| phase (η = κ/λ) | λ_c/λ, first 20 steps | λ_c/λ, second half | forward passes |")
    print("|---|---|---|---|")
    for kappa, phase in PHASES.items():
        rows = runs["hessian", kappa]
        ratios = [row["critical"] / row["sharpness"] for row in rows]
        early, late = spread(ratios[:20], ".2g"), spread(ratios[steps // 2 :], ".2g")
        passes = statistics.median(row["evaluations"] for row in rows)
        print(f"| {phase}, κ = {kappa:g} | {early} | {late} | {passes:g} |")
    print()
    print("| η = | κ | largest η·λ | η·λ, second half | steps at which the loss rose | last loss |")
    print("|---|---|---|---|---|---|")
    for (source, kappa), rows in runs.items():
        losses = [row["loss"] for row in rows]
        rose = statistics.mean(after > before for before, after in pairwise(losses))
        name = "κ/λ" if source == "hessian" else "κ/λ_c"
        held = (
            "–, the weights left the finite"
            if len(rows) < steps
            else spread([r["product"] for r in rows[steps // 2 :]])
        )
        end = losses[-1] if math.isfinite(losses[-1]) else math.inf
        most = max(row["product"] for row in rows)
        print(f"| {name} | {kappa:g} | {most:.3g} | {held} | {100 * rose:.0f}% | {end:.2g} |")


if __name__ == "__main__":
    main()
