"""λ_0 against depth: is the first learning rate depth-free?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import DERIVED, READ, Claim, Estimate, exact, judge, mean, slope, slopes
from eoc.analysis.claims.drawing import RULES, band, label, legend_above, panels, ticks
from eoc.analysis.claims.pairs import spread_ratio
from eoc.analysis.claims.reading import first, reduced


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its setting and λ_0."""
    return reduced(runs, lambda columns: {"sharpness": first(columns, "sharpness")})


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Slopes of log λ_0 against log depth, and the spread over seeds."""
    found = []
    tried = set(cells["model.activation"])
    known = [name for name in ("relu", "abs", "leaky_relu") if name in tried]
    for activation in (*known, *sorted(tried.difference(known))):
        part = _curve(cells, "nup", activation)
        measured = slopes(part, "model.depth", "sharpness")
        found.append(
            Claim(
                f"nup_flat_{activation}",
                f"νP: depth needs no smaller rate at initialization: λ_0 does not grow with depth ({activation}).",
                READ,
                "exponent of λ_0 in depth at most 0.15",
                measured,
                judge(measured, -np.inf, 0.15, slack=0.15),
                "; ".join([*_extent(part), "the theory's Σ K_k = η·l/(l−1) falls a little with depth"]),
            )
        )
    for model in ("ntp", "mup"):
        measured = slopes(_curve(cells, model), "model.depth", "sharpness")
        found.append(
            Claim(
                f"{model}_grows",
                f"{RULES[model]}: λ_0 grows at least in proportion to depth, so that the largest stable rate falls.",
                DERIVED,
                "exponent at least 0.75",
                measured,
                judge(measured, 0.75, np.inf, slack=0.25),
            )
        )
    measured = slopes(_curve(cells, "mup_inverse_depth"), "model.depth", "sharpness")
    found.append(
        Claim(
            "mup_inverse_depth_flat",
            "μP with its rate divided by depth, the usual fix: λ_0 does not grow with depth at constant width 64.",
            DERIVED,
            "exponent within ±0.15",
            measured,
            judge(measured, -0.15, 0.15, slack=0.15),
            "λ_0 = Σ K_k in the limit of infinite width only: at constant width its mean grows with its fluctuations",
        )
    )
    wide = _curve(cells, "nup_growth_3")
    usual = _relu(cells, "nup").merge(wide[["model.width", "model.depth", "seed"]])  # of the same m, depths and seeds
    of_seed = [
        slope(part["model.depth"], part["sharpness"]) - slope(other["model.depth"], other["sharpness"])
        for seed, part in wide.groupby("seed")
        if len(other := usual[usual["seed"] == seed]) == len(part)
    ]
    measured = mean(of_seed)
    found.append(
        Claim(
            "growth_3_grows",
            "For widths that grow faster than k² (γ = 3) λ_0 grows faster with depth than for γ = 2.",
            DERIVED,
            "exponent less that of γ = 2, by seed, at least 0.15",
            measured,
            judge(measured, 0.15, np.inf, slack=0.15),
            "; ".join([*_extent(wide), f"its own exponent {slopes(wide, 'model.depth', 'sharpness')}"]),
        )
    )
    for model, low, high, says in (
        ("nup", 0.0, 2.0, "stays bounded (at most doubles) for widths m·k²"),
        ("nup_growth_0", 2.0, np.inf, "grows without bound (at least doubles) at constant width"),
    ):
        measured = _growth_of_spread(_curve(cells, model))
        others = {
            ", ".join(_extent(part)): _growth_of_spread(part)
            for width, part in _relu(cells, model).groupby("model.width")
            if width != _usual(_relu(cells, model)["model.width"])
        }
        found.append(
            Claim(
                f"{model}_spread",
                f"From the shallowest to the deepest networks the spread of λ_0 over seeds {says}.",
                DERIVED,
                f"ratio of standard deviations of log λ_0, deepest to shallowest, {'≤' if low == 0 else '≥'} 2",
                measured,
                judge(measured, low, high, slack=0.5),
                "; ".join([*_extent(_curve(cells, model)), *(f"{which}: {other}" for which, other in others.items())]),
            )
        )
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """λ_0 against depth: rules, growth, activations."""
    drawn, axes = panels(3, "Top Hessian eigenvalue λ₀ at initialization, learning-rate metric")
    relu = cells[cells["model.activation"] == "relu"]
    own = relu[relu.groupby("model")["model.width"].transform(_usual) == relu["model.width"]]
    for axis, models in (
        (axes[0], ["sp", "ntp", "mup", "mup_inverse_depth", "nup"]),
        (axes[1], ["nup_growth_0", "nup_growth_1", "nup_growth_1_5", "nup", "nup_growth_3"]),
    ):
        for model in models:
            band(axis, own[own["model"] == model], "model.depth", "sharpness", label(model))
    for activation, part in cells[cells["model"] == "nup"].groupby("model.activation"):
        part = part[part["model.width"] == _usual(part["model.width"])]
        band(axes[2], part, "model.depth", "sharpness", ", ".join(["νP", str(activation), *_widths(part)]))
    for axis, title in zip(axes, ("rules, relu", "νP, widths m·k^γ", "activations"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="depth l (linear layers)", title=title)
        ticks(axis, sorted(cells["model.depth"].unique()))
        legend_above(axis)
    return drawn


def _usual(widths: pd.Series) -> float:
    """The width with the most runs: of νP the one that goes furthest. Of several the middle one."""
    most = widths.mode()
    return float(most.iloc[len(most) // 2]) if len(most) else np.nan


def _extent(part: pd.DataFrame) -> list[str]:
    """Width and depths of these cells in words; nothing where there are none."""
    depths = part["model.depth"]
    return [f"{width}, depths {depths.min()} to {depths.max()}" for width in _widths(part)]


def _widths(part: pd.DataFrame) -> list[str]:
    """The widths of these cells (one, or none where nothing was run) in words."""
    return [f"m = {width}" for width in part["model.width"].unique()]


def _curve(cells: pd.DataFrame, model: str, activation: str = "relu") -> pd.DataFrame:
    part = cells[(cells["model"] == model) & (cells["model.activation"] == activation)]
    return part[part["model.width"] == _usual(part["model.width"])]


def _relu(cells: pd.DataFrame, model: str) -> pd.DataFrame:
    return cells[(cells["model"] == model) & (cells["model.activation"] == "relu")]


def _growth_of_spread(part: pd.DataFrame) -> Estimate:
    by_seed = np.log(part.pivot_table(index="seed", columns="model.depth", values="sharpness").sort_index(axis=1))
    if min(by_seed.shape) < 2:  # one depth, or one seed
        return exact(np.nan)
    return spread_ratio(by_seed.to_numpy()[:, [0, -1]])
