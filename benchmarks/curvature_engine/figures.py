"""The two figures of docs/curvature.md, the second in docs/curvature_gpu.md too."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from eoc.analysis.style import BLUE, GREY, ORANGE, RED, figure_style

PHASES = {"edge_of_stability": "Edge of stability", "catapult": "Catapult phase, η·λ = 2.5"}
KINDS = {"methods": (BLUE, "this project"), "alternatives": (ORANGE, "tried, and lost"), "peers": (RED, "peers")}
# Short names, so that they fit beside their points.
SHORT = {
    "tracker": "tracker, 1e-3",
    "tracker, tolerance 1e-2": "tracker, 1e-2",
    "tracker, scout in bfloat16, tolerance 1e-2": "scout in bfloat16",
    "tracker, scout in bfloat16, tolerance 1e-2, 2 guards": "scout, 2 guards",
    "tracker, bfloat16, tolerance 1e-2": "bfloat16, 1e-2",
    "tracker, bfloat16, tolerance 1e-2, caution 1.2": "caution 1.2",
    "tracker, bfloat16, tolerance 1e-2, caution 4": "caution 4",
    "tracker, cheap (2e-2, no guard)": "2e-2, no guard",
    "tracker, cheapest (5e-2, no guard)": "5e-2, no guard",
    "curvlinops + SciPy eigsh, tol 1e-3": "curvlinops + SciPy",
    "hessian-eigenthings, Lanczos, 22 products": "22",
    "hessian-eigenthings, Lanczos, 24 products": "24",
    "hessian-eigenthings, power iteration, tol 1e-3": "hessian-eigenthings, power",
    "PyHessian, power iteration, tol 1e-3": "PyHessian",
}
# Where a name stands, if not above and to the right of its point: offset in points, alignment.
BELOW = ((0, -13), "center")
PLACES = {
    "tracker, scout in bfloat16, tolerance 1e-2": ((6, -12), "left"),
    "tracker, scout in bfloat16, tolerance 1e-2, 2 guards": ((6, 4), "left"),
    "tracker, bfloat16, tolerance 1e-2": ((-6, -3), "right"),
    "tracker, bfloat16, tolerance 1e-2, caution 1.2": BELOW,
    "tracker, cheap (2e-2, no guard)": ((14, -13), "right"),
    "hessian-eigenthings, Lanczos, 20 products": ((-2, 5), "right"),
    "hessian-eigenthings, Lanczos, 22 products": ((1, 6), "center"),
    "hessian-eigenthings, Lanczos, 24 products": ((5, 4), "left"),
    "tracker, cheapest (5e-2, no guard)": ((-6, -3), "right"),
    "last probe, predictions": ((6, -12), "left"),
    "last probe, residuals": ((6, -12), "left"),
    "curvlinops + SciPy eigsh, tol 1e-3": ((6, -11), "left"),
    "hessian-eigenthings, power iteration, tol 1e-3": ((0, 6), "center"),
}


def draw(results: dict, folder: Path, suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with figure_style():
        if all(phase in results for phase in PHASES):
            _error_against_cost(results, folder / f"curvature_cost{suffix}.png")
        if "scaling" in results:
            _scaling(results["scaling"], folder / f"curvature_scaling{suffix}.png")


def _error_against_cost(results: dict, path: Path) -> None:
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (phase, title) in zip(panels, PHASES.items(), strict=True):
        summary = results[phase]["summary"]
        for kind, (colour, label) in KINDS.items():
            for name, entry in summary[kind].items():
                if entry["error_worst"] is None or name.endswith("top 5"):
                    continue
                at = entry["gradients_median"], max(entry["error_worst"], 1e-9)
                panel.plot(*at, "o", color=colour, markersize=5)
                short = SHORT.get(name, name.replace(" products", "").replace("hessian-eigenthings, ", ""))
                offset, side = PLACES.get(name, ((6, 5), "left"))
                panel.annotate(short, at, xytext=offset, textcoords="offset points", fontsize=7.5, ha=side)
            panel.plot([], [], "o", color=colour, label=label)
        panel.axhline(1e-3, color=GREY, linewidth=0.8, linestyle="--")
        panel.axvline(12, color=GREY, linewidth=0.8, linestyle="--")
        panel.set(xscale="log", yscale="log", title=title, xlim=(1.2, 500))
        panel.set_xlabel("time of a probe / time of a gradient (median)")
    panels[0].legend(loc="lower left")
    panels[0].set_ylabel("worst relative error of the sharpness")
    figure.savefig(path, dpi=130)


def _short(value: int) -> str:
    """1,000 as it is; 59,008 as 59k, 36,806,656 as 37M: long numbers would overlap."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if value > max(unit, 10_000):
            return f"{value / unit:.3g}{name}"
    return f"{value:,}"


def _scaling(rows: list[dict], path: Path) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    widths = [row["width"] for row in rows]
    cases = (
        (
            "parameters",
            f"parameters (widths {min(widths)} to {max(widths)})",
            lambda r: r["images"] == 1000 and r["k"] == 1,
        ),
        ("images", "images", lambda r: r["width"] == 256 and r["k"] == 1),
        ("k", "eigenpairs k", lambda r: r["width"] == 256 and r["images"] == 1000),
    )
    panels = figure.subplots(1, len(cases))
    for panel, (key, label, chosen) in zip(panels, cases, strict=True):
        points = sorted(((row[key], row) for row in rows if chosen(row)), key=lambda point: point[0])
        x = [value for value, _ in points]
        probes, gradients = ([1e3 * row[f"{what}_seconds"] for _, row in points] for what in ("probe", "gradient"))
        panel.plot(x, probes, "o-", color=BLUE, label="probe (with its products)")
        panel.plot(x, gradients, "s--", color=GREY, label="gradient")
        panel.plot(x, [probes[0] * value / x[0] for value in x], ":", color=RED, label="proportional")
        for value, height, (_, row) in zip(x, probes, points, strict=True):
            text = f"{row['products']:g}"
            panel.annotate(text, (value, height), xytext=(0, 6), textcoords="offset points", fontsize=8, ha="center")
        panel.set(xscale="log", yscale="log", xlabel=label)
        panel.set_xticks(x, [_short(value) for value in x])
        panel.minorticks_off()
    panels[0].legend()
    panels[0].set_ylabel("milliseconds (median)")
    figure.suptitle("Cost of a tracked probe; the numbers are Hessian products", fontsize=10)
    figure.savefig(path, dpi=130)
