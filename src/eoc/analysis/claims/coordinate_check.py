"""How far one step moves each layer and the output, over depth and width."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import DERIVED, Claim, judge, largest, mean, ratio, slope, slopes
from eoc.analysis.claims.drawing import RULES, band, label, panels, ticks
from eoc.analysis.claims.reading import History, by_layer, first, reduced

TOLERANCE = 0.3  # largest exponent, in depth or width, of what counts as not moving
RATES = ("preactivations", "output")


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: Σ r_k/η over hidden layers, the output's step per η and mean residual, and their profiles.

    ``moved_in_ten_steps`` is Σ r_k over hidden layers and all steps.
    """
    return reduced(runs, _measure)


def _measure(columns: History) -> dict[str, float]:
    rate = first(columns, "lr")
    sizes = by_layer(columns, "layer_step/preactivations")[:-1] / rate
    shares = by_layer(columns, "layer_step/output_share")
    layers = np.arange(1, len(sizes) + 1)
    hidden = [columns[f"layer_step/preactivations/layer_{k}"] for k in layers]
    return {
        "lr": rate,
        "preactivations": float(sizes.sum()) if len(sizes) else float("nan"),
        "largest": largest(sizes),
        "profile": slope(layers[1:], sizes[1:]),  # layer 1 has inputs and a gain of its own
        "output": first(columns, "layer_step/output") / rate / first(columns, "layer_step/mean_residual"),
        "unevenness": largest(shares / shares.min(initial=np.inf)),
        "moved_in_ten_steps": float(np.nansum(hidden)),
    }


def claims(cells: pd.DataFrame) -> list[Claim]:
    """The exponents of the table in docs/theory.md."""
    depths = np.sort(cells["model.depth"].unique())
    harmonic = slope(depths, np.array([(1 / np.arange(1, depth)).sum() for depth in depths]))
    expected = {  # what Σ r_k goes like, its exponent in depth, and that of one r_k in k
        "ntp": ("η·l", 1.0, 0.0),
        "mup": ("η·l", 1.0, 0.0),
        "nup_growth_0": ("η, whatever the depth", 0.0, 0.0),
        "nup_growth_1": ("η, whatever the depth", 0.0, -0.5),
        "nup": ("η·Σ 1/k, like ln l", harmonic, -1.0),
    }
    found = []
    for model in [name for name in expected if name in set(cells["model"])]:
        words, in_depth, in_k = expected[model]
        part = middle(cells, model)
        measured = slopes(part, "model.depth", "preactivations")
        found.append(
            Claim(
                f"{model}_preactivations",
                f"{RULES[model]}: one step moves the preactivations of all hidden layers together by Σ r_k ∝ {words}.",
                DERIVED,
                f"exponent of Σ r_k/η in depth within {in_depth:.2g} ± {TOLERANCE}",
                measured,
                judge(measured, in_depth - TOLERANCE, in_depth + TOLERANCE, slack=0.2),
                "the formula is for one input",
            )
        )
        measured = mean(_deepest(cells, model)["profile"])
        found.append(
            Claim(
                f"{model}_profile",
                f"{RULES[model]}: layer k moves its own preactivations by r_k ∝ k^{in_k:g}.",
                DERIVED,
                f"exponent of r_k in k at the largest depth within {in_k:g} ± {TOLERANCE}",
                measured,
                judge(measured, in_k - TOLERANCE, in_k + TOLERANCE, slack=0.2),
            )
        )
    if {"nup", "nup_growth_0"} <= set(cells["model"]):
        deep = [_deepest(cells, model).groupby("seed")["profile"].mean() for model in ("nup", "nup_growth_0")]
        measured = mean((deep[0] - deep[1]).to_numpy())
        found.append(
            Claim(
                "growth_tilts",
                "Widths m·k² tilt the profile of r_k by k^−1 against constant width, whatever the batch adds to both.",
                DERIVED,
                f"difference of the exponents within −1 ± {TOLERANCE}",
                measured,
                judge(measured, -1 - TOLERANCE, -1 + TOLERANCE, slack=0.2),
            )
        )
    if "nup" in set(cells["model"]):
        part = middle(cells, "nup")
        measured = slopes(part, "model.depth", "output")
        found.append(
            Claim(
                "nup_output",
                "νP: one step moves the output by the same amount at every depth, for a given residual.",
                DERIVED,
                f"exponent of the output's step/(η·mean residual) in depth within ±{TOLERANCE}",
                measured,
                judge(measured, -TOLERANCE, TOLERANCE, slack=0.2),
                "only the mean residual is divided out; shallow networks also move what differs between inputs",
            )
        )
        measured = ratio(part[part["model.depth"] == part["model.depth"].max()]["unevenness"])
        found.append(
            Claim(
                "nup_shares",
                "νP: every layer has the same share of the output's change.",
                DERIVED,
                f"largest over smallest share at most 2, depth {part['model.depth'].max()}",
                measured,
                judge(measured, 1.0, 2.0, slack=0.5),
            )
        )
    return found


def checks(cells: pd.DataFrame) -> pd.DataFrame:
    """The check as a table: a rule passes if neither Σ r_k/η nor the output's step (as in `cells`) moves.

    Returns:
        One row a rule: exponents in depth (at its middle width) and in width (at its middle depth), and ``passes``.
    """
    rows = []
    for model, part in cells.groupby("model", sort=False):
        row: dict[str, object] = {"model": model}
        for axis, name in (("model.depth", "depth"), ("model.width", "width")):
            other = "model.width" if axis == "model.depth" else "model.depth"
            across = part[part[other] == _middle(part[other])]
            for quantity in RATES:
                row[f"{quantity}, {name}"] = slopes(across, axis, quantity).value
        exponents = [value for key, value in row.items() if key != "model" and np.isfinite(float(str(value)))]
        row["passes"] = bool(exponents) and all(abs(float(str(value))) <= TOLERANCE for value in exponents)
        rows.append(row)
    return pd.DataFrame(rows)


def figure(cells: pd.DataFrame) -> Figure:
    """Σ r_k/η and the output's step/η against depth and width."""
    drawn, axes = panels(2, "Coordinate check: the first step, divided by η", rows=2)
    titles = {"preactivations": "Σ r_k/η over hidden layers", "output": "RMS change of the output/(η·mean residual)"}
    relatives: set[float] = set()
    for column, quantity in enumerate(RATES):
        for model in [name for name in RULES if name in set(cells["model"])]:
            part = cells[cells["model"] == model]
            across = part[part["model.width"] == _middle(part["model.width"])]
            band(axes[column], across, "model.depth", quantity, label(model))
            across = part[part["model.depth"] == _middle(part["model.depth"])]
            relative = across.assign(relative=across["model.width"] / _middle(part["model.width"]))
            band(axes[2 + column], relative, "relative", quantity, label(model))
            relatives |= set(relative["relative"])
        for axis, name in ((axes[column], "depth l"), (axes[2 + column], "width, relative to the middle one")):
            axis.set(xscale="log", yscale="log", xlabel=name, title=titles[quantity])
        ticks(axes[column], sorted(cells["model.depth"].unique()))
        ticks(axes[2 + column], sorted(relatives))
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def middle(cells: pd.DataFrame, model: str) -> pd.DataFrame:
    """The runs of a rule at its middle width."""
    part = cells[cells["model"] == model]
    return part[part["model.width"] == _middle(part["model.width"])]


def _deepest(cells: pd.DataFrame, model: str) -> pd.DataFrame:
    part = middle(cells, model)
    return part[part["model.depth"] == part["model.depth"].max()]


def _middle(values: pd.Series) -> float:
    levels = sorted(values.unique())
    return levels[len(levels) // 2] if len(levels) % 2 else levels[len(levels) // 2 - 1]
