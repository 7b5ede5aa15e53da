"""The measured part of docs/curvature.md, written from the results so that the page cannot differ from them."""

from __future__ import annotations

import statistics
from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PHASES = {"edge_of_stability": "Edge of stability", "catapult": "Catapult phase, rate = 2.5 / sharpness"}


def write(results: dict, page: Path) -> None:
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n{END}{after}")


def markdown(results: dict) -> str:
    parts = [_environment(results["environment"])]
    parts += [_phase(title, results[phase]) for phase, title in PHASES.items() if phase in results]
    if all(phase in results for phase in PHASES):
        parts.append(_goals([results[phase] for phase in PHASES]))
        parts.append(_critical(results))
    if "products" in results:
        parts.append(_products(results["products"]))
    if "scaling" in results:
        parts.append("![cost against size](images/curvature_scaling.png)\n")
    return "\n".join(parts)


def _environment(env: dict) -> str:
    clock = "CPU time of the process" if env["clock"] == "cpu" else "wall time"
    return (
        f"{env['processor']}, {env['threads']} thread(s), torch {env['torch']}, Python {env['python']}, "
        f"device {env['device']}, {clock}. Costs are in units of one gradient's time, medians over the steps.\n"
    )


def _phase(title: str, phase: dict) -> str:
    lines = [f"**{title}**, {len(phase['rows'])} consecutive steps.\n"]
    lines.append(
        "| method | cost, gradients | products: median, most | error: median | error: worst | bound exceeded |"
    )
    lines.append("|---|---|---|---|---|---|")
    for name, m in phase["summary"]["methods"].items():
        lines.append(
            f"| {name} | {m['gradients_median']:.1f} | {m['products_median']:g}, {m['products_most']} "
            f"| {m['error_median']:.0e} | {m['error_worst']:.0e} | {m['bound_exceeded']} of {m['compared']} |"
        )
    for name, m in phase["summary"]["peers"].items():
        lines.append(
            f"| {name} ({m['compared']} steps) | {m['gradients_median']:.1f} | – "
            f"| {m['error_median']:.0e} | {m['error_worst']:.0e} | – |"
        )
    return "\n".join(lines) + "\n"


def _goals(phases: list[dict]) -> str:
    ours = max(p["summary"]["methods"]["tracker"]["gradients_median"] for p in phases)
    names = phases[0]["summary"]["peers"]
    good = {
        name: min(p["summary"]["peers"][name]["gradients_median"] for p in phases)
        for name in names
        if max(p["summary"]["peers"][name]["error_worst"] for p in phases) <= 1e-3
    }
    if not good:
        return f"No peer reached a worst error of 1e-3; the tracker costs {ours:.1f} gradients.\n"
    best = min(good, key=good.__getitem__)
    return (
        f"The fastest peer whose worst error is at most 1e-3 is {best}: {good[best]:.0f} gradients, "
        f"{good[best] / ours:.1f} times the tracker's {ours:.1f} (of which the training step's own gradient can be "
        f"saved: {ours - 1:.1f}).\n"
    )


def _critical(results: dict) -> str:
    lines = ["**Critical sharpness** over sharpness, along the gradient-descent update.\n"]
    lines += ["| phase | 5% | median | 95% | forward passes | cost, gradients |", "|---|---|---|---|---|---|"]
    for phase, title in PHASES.items():
        summary = results[phase]["summary"]
        ratio = summary["critical_over_sharpness"]
        cost = statistics.median(row["critical"]["gradients"] for row in results[phase]["rows"])
        lines.append(
            f"| {title} | {ratio[0]:.2f} | {ratio[len(ratio) // 2]:.2f} | {ratio[-1]:.2f} "
            f"| {summary['critical_evaluations_median']:g} | {cost:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _products(products: dict) -> str:
    lines = ["| one product | gradients |", "|---|---|"]
    lines += [f"| {name} | {cost:.2f} |" for name, cost in products.items() if name != "gradient_seconds"]
    return "\n".join(lines) + "\n"
