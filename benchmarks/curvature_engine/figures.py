"""The two figures of docs/curvature.md."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

PHASES = {"edge_of_stability": "edge of stability", "catapult": "catapult phase, η·λ = 2.5"}


def draw(results: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if all(phase in results for phase in PHASES):
        _error_against_cost(results, folder / "curvature_cost.png")
    if "scaling" in results:
        _scaling(results["scaling"], folder / "curvature_scaling.png")


def _error_against_cost(results: dict, path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.2), sharey=True, layout="constrained")
    for panel, (phase, title) in zip(panels, PHASES.items(), strict=True):
        summary = results[phase]["summary"]
        for kind, colour, label in (
            ("methods", "tab:blue", "this project"),
            ("peers", "tab:red", "peers, every time anew"),
        ):
            for name, entry in summary[kind].items():
                if entry["error_worst"] is None or name.startswith("tracker, top 5"):
                    continue
                panel.plot(entry["gradients_median"], max(entry["error_worst"], 1e-9), "o", color=colour)
                panel.annotate(
                    name,
                    (entry["gradients_median"], max(entry["error_worst"], 1e-9)),
                    xytext=(5, 3),
                    textcoords="offset points",
                    fontsize=7,
                )
            panel.plot([], [], "o", color=colour, label=label)
        panel.axhline(1e-3, color="grey", lw=0.8, ls="--")
        panel.axvline(12, color="grey", lw=0.8, ls="--")
        panel.set(xscale="log", yscale="log", xlabel="time of a probe / time of a gradient (median)", title=title)
        panel.set_xlim(2, 900)
        panel.legend(loc="lower left", frameon=False)
    panels[0].set_ylabel("worst relative error of the sharpness")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _scaling(rows: list[dict], path: Path) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    cases = (
        ("parameters", "parameters", lambda r: r["images"] == 1000 and r["k"] == 1),
        ("images", "images", lambda r: r["width"] == 256 and r["k"] == 1),
        ("k", "eigenpairs k", lambda r: r["width"] == 256 and r["images"] == 1000),
    )
    for panel, (key, label, chosen) in zip(panels, cases, strict=True):
        points = sorted((row[key], row) for row in rows if chosen(row))
        x = [value for value, _ in points]
        panel.plot(x, [1e3 * row["probe_seconds"] for _, row in points], "o-", label="probe")
        panel.plot(x, [1e3 * row["gradient_seconds"] for _, row in points], "s--", color="grey", label="gradient")
        for value, row in points:
            panel.annotate(
                f"{row['products']:g}",
                (value, 1e3 * row["probe_seconds"]),
                xytext=(0, 6),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
        panel.set(xscale="log", yscale="log", xlabel=label)
        panel.legend(frameon=False)
    panels[0].set_ylabel("milliseconds (median)")
    figure.suptitle("Cost of a tracked probe; the numbers are Hessian products", fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)
