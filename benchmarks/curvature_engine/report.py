"""The measured part of docs/curvature.md, written from the results so that the page cannot differ from them; of
docs/curvature_gpu.md likewise."""

from __future__ import annotations

import statistics
from collections.abc import Callable

PHASES = {"edge_of_stability": "Edge of stability", "catapult": "Catapult phase, rate = 2.5 / sharpness"}
STARTS = {"edge_of_stability": "from the first on at which η·λ has reached 2", "catapult": "from the start on"}
OUT = "written out"
WRITTEN = f"tracker, products {OUT}"
SCOUT = "tracker, scout in bfloat16, tolerance 1e-2"
CHEAP = (
    SCOUT,
    f"{SCOUT}, 2 guards",
    f"{SCOUT}, top 5",
    "tracker, bfloat16, tolerance 1e-2",
    "tracker, bfloat16, tolerance 1e-2, caution 1.2",
    "tracker, bfloat16, tolerance 1e-2, caution 4",
    "tracker, tolerance 1e-2",
    f"{WRITTEN}, bfloat16, tolerance 1e-2",
    f"{WRITTEN}, bfloat16, tolerance 1e-2, caution 4",
    "tracker, cheap (2e-2, no guard)",
    "tracker, cheapest (5e-2, no guard)",
)


def suffix(results: dict) -> str:
    """What tells a GPU's results, figures and page from the CPU's."""
    return "" if results["environment"]["device"] == "cpu" else "_gpu"


def markdown(results: dict) -> str:
    parts = [_environment(results["environment"])]
    if all(phase in results for phase in PHASES) and "products" in results:
        parts.append(_goals([results[phase]["summary"] for phase in PHASES], results["products"]))
    parts += [_phase(phase, results[phase]) for phase in PHASES if phase in results]
    if all(phase in results for phase in PHASES):
        parts.append(_critical(results))
    if "products" in results:
        parts.append(_products(results["products"]))
    if "scaling" in results:
        figure = f"images/curvature_scaling{suffix(results)}.png"
        parts += [_scaling(results["scaling"]), f"![cost against size]({figure})\n"]
    return "\n".join(parts)


def _environment(env: dict) -> str:
    command = "make bench" if env["device"] == "cpu" else 'make bench ARGS="--device cuda"'
    clock = "CPU time of the process" if env["clock"] == "cpu" else "wall time"
    cores = "pinned to one core" if env["cores_allowed"] == 1 else f"on {env['cores_allowed']} cores"
    return (
        f"{env['processor']}, {env['threads']} thread(s) {cores}, torch {env['torch']}, Python {env['python']}, device "
        f"{env['device']}, {clock}. Costs are in units of one gradient's time, medians over the steps; errors are "
        "relative to SciPy's eigsh in float64 at tolerance 1e-8, at every step unless fewer are named. "
        f"`{command}` prints this section.\n"
    )


def _goals(phases: list[dict], products: dict) -> str:
    def row(what: str, values: list[str]) -> str:
        return f"| {what} | {' | '.join(values)} |"

    def of(name: str, entry: str, form: str) -> list[str]:
        return [format(phase["methods"][name][entry], form) for phase in phases]

    lines = ["| | edge of stability | catapult |", "|---|---|---|"]
    lines.append(row("worst error of λ at tolerance 1e-3", of("tracker", "error_worst", ".0e")))
    exceeded = [f"{p['methods']['tracker']['bound_exceeded']} of {p['methods']['tracker']['compared']}" for p in phases]
    lines.append(row("steps at which its error exceeded its bound", exceeded))
    lines.append(row("its cost, gradients", of("tracker", "gradients_median", ".1f")))
    shared = products["gradient"] - products["gradient, from the graph of a probe"]
    beside = [f"{p['methods']['tracker']['gradients_median'] - shared:.1f}" for p in phases]
    lines.append(row("the same where the training step takes its gradient from the probe's graph", beside))
    if WRITTEN in phases[0]["methods"]:
        lines.append(row("its cost with an MLP's products written out", of(WRITTEN, "gradients_median", ".1f")))
        shared = products["gradient"] - products["gradient, from the passes of a probe written out"]
        beside = [f"{p['methods'][WRITTEN]['gradients_median'] - shared:.1f}" for p in phases]
        lines.append(row("the same where the training step takes its gradient from the probe's passes", beside))
    lines += _fastest_peer(phases, row)
    for title, name in (("top 5", "tracker, top 5"), ("top 5, products written out", f"{WRITTEN}, top 5")):
        if name in phases[0]["methods"]:
            lines.append(row(f"{title}, gradients", of(name, "gradients_median", ".1f")))
    for name in (each for each in CHEAP if each in phases[0]["methods"]):
        costs, medians, worst = (of(name, e, f) for e, f in CHEAP_ENTRIES)
        cells = [f"{c}; {m}, {w}" for c, m, w in zip(costs, medians, worst, strict=True)]
        lines.append(row(f"{name}: gradients; error in the median, worst", cells))
    for title, name in (("one product", "Hessian product"), ("one product written out", f"Hessian product, {OUT}")):
        if name in products:
            lines.append(row(f"{title}, gradients", [f"{products[name]:.2f}"] * 2))
    limit = "Peers start anew, so that their worst error is over few steps: it may be larger over all.\n"
    return "\n".join(lines) + f"\n\n{limit}"


def _fastest_peer(phases: list[dict], row: Callable[[str, list[str]], str]) -> list[str]:
    good = [name for name in phases[0]["peers"] if all(_within(p["peers"][name], 1e-3) for p in phases)]
    if not good:
        return [row("fastest peer within 1e-3 in both", ["none", "none"])]
    best = min(good, key=lambda name: sum(p["peers"][name]["gradients_median"] for p in phases))
    theirs = [p["peers"][best]["gradients_median"] for p in phases]
    lines = [row(f"fastest peer within 1e-3 in both: {best}", [f"{cost:.1f}" for cost in theirs])]
    scouts = (SCOUT, "the tracker's with a scout"), (f"{SCOUT}, 2 guards", "the tracker's with a scout and 2 guards")
    written = WRITTEN, "the tracker's with products written out"
    for name, title in (("tracker", "the tracker's"), written, *scouts):
        if name not in phases[0]["methods"]:
            continue
        ours = [p["methods"][name]["gradients_median"] for p in phases]
        ratios = [f"{their / our:.1f}" for their, our in zip(theirs, ours, strict=True)]
        lines.append(row(f"its cost over {title} ({sum(theirs) / sum(ours):.1f} over both runs)", ratios))
    for name, title in (("tracker", "the tracker"), (f"{SCOUT}, 2 guards", "it is with a scout and 2 guards")):
        cells = [_equal(phase, name) for phase in phases]
        lines.append(row(f"fastest peer that was as right as {title}: its cost over ours", cells))
    return lines


def _within(method: dict, limit: float) -> bool:
    """Whether its worst error is known and no larger."""
    return method["error_worst"] is not None and method["error_worst"] <= limit


def _equal(phase: dict, name: str) -> str:
    """The fastest peer whose worst error is no larger than that of one of ours."""
    ours = phase["methods"][name]
    good = {peer: p for peer, p in phase["peers"].items() if _within(p, ours["error_worst"])}
    if not good:
        return "none"
    best = min(good, key=lambda peer: good[peer]["gradients_median"])
    return (
        f"{best.removeprefix('hessian-eigenthings, ')}: {good[best]['gradients_median'] / ours['gradients_median']:.1f}"
    )


CHEAP_ENTRIES = (("gradients_median", ".1f"), ("error_median", ".0e"), ("error_worst", ".0e"))


def _phase(name: str, phase: dict) -> str:
    held = f"η·λ {phase['summary']['rate_x_sharpness_median']:.2f} in the median"
    lines = [f"**{PHASES[name]}**, {len(phase['rows'])} consecutive steps, {STARTS[name]}; {held}.\n"]
    lines.append(
        "| method | cost, gradients | products: median, most | error: median | error: worst | bound exceeded |"
    )
    lines.append("|---|---|---|---|---|---|")
    steps = len(phase["rows"])
    for name, m in [*phase["summary"]["methods"].items(), *phase["summary"]["alternatives"].items()]:
        where = "" if m["compared"] == steps else f" ({m['compared']} steps)"
        lines.append(
            f"| {name}{where} | {m['gradients_median']:.1f} | {m['products_median']:g}, {m['products_most']} "
            f"| {m['error_median']:.0e} | {m['error_worst']:.0e} | {m['bound_exceeded']} of {m['compared']} |"
        )
    for name, m in phase["summary"]["peers"].items():
        lines.append(
            f"| {name} ({m['compared']} steps) | {m['gradients_median']:.1f} | – "
            f"| {_error(m['error_median'])} | {_error(m['error_worst'])} | – |"
        )
    return "\n".join(lines) + "\n"


def _error(value: float | None) -> str:
    return "not compared" if value is None else f"{value:.0e}"


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


def _scaling(rows: list[dict]) -> str:
    lines = ["**Cost against size**, early in training: medians over ten steps.\n"]
    both = all("written_out_seconds" in row for row in rows)
    more = [" written out: gradients | milliseconds |", "---|---|"] if both else ["", ""]
    lines += [
        f"| width | parameters | images | k | products | gradients | milliseconds |{more[0]}",
        f"|---|---|---|---|---|---|---|{more[1]}",
    ]
    for row in rows:
        probes = [row["probe_seconds"], *([row["written_out_seconds"]] if both else [])]
        costs = [f"{spent / row['gradient_seconds']:.1f} | {1e3 * spent:.0f}" for spent in probes]
        sizes = f"{row['width']} | {row['parameters']:,} | {row['images']:,} | {row['k']} | {row['products']:g}"
        lines.append(f"| {sizes} | {' | '.join(costs)} |")
    return "\n".join(lines) + "\n"
