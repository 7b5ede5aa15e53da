"""Which learning rate is best, and how far it drifts with depth and width."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import DERIVED, PAPER, Claim, Estimate, judge, line, mean
from eoc.analysis.claims.drawing import COLOURS, RULES, panels, ticks
from eoc.analysis.claims.reading import SETTING, History, reduced
from eoc.analysis.style import layer_colours

LAST = 6  # final steps over which the loss is averaged: at large rates it bounces
CURVE = ["model", "model.width", "model.richness"]
RECOMMENDED = {"model": "nup_growth_1", "model.richness": 0.333}
CHOOSING = 2  # the setting was chosen on digits after the runs with seeds below this


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its rate and the geometric mean of the last losses, infinite if it diverged."""
    kept = reduced(runs, _measure, (*SETTING, "schedule.rate"))
    kept.loc[kept["status"] != "completed", "loss"] = np.inf
    return kept


def _measure(columns: History) -> dict[str, float]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"loss": float(np.exp(np.log(columns["train/loss"][-LAST:]).mean()))}


def optima(cells: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every curve, depth and seed: the vertex of the parabola through the best three log losses.

    Returns:
        Columns of `CURVE`, ``model.depth``, ``seed``, ``rate``, ``loss``, and ``inside``: whether the best rate of the
        grid is not at its end.
    """
    rows = []
    for key, part in cells.groupby([*CURVE, "model.depth", "seed"], sort=False):
        curve = part.sort_values("schedule.rate")
        logs = np.log2(curve["schedule.rate"].to_numpy(dtype=float))
        loss = curve["loss"].fillna(np.inf).to_numpy(dtype=float)
        best = int(np.argmin(loss))
        inside = 0 < best < len(loss) - 1
        shift = (
            _vertex(np.log(loss[best - 1 : best + 2])) if inside and np.isfinite(loss[best - 1 : best + 2]).all() else 0
        )
        step = logs[1] - logs[0] if len(logs) > 1 else 0.0
        rate = float(2 ** (logs[best] + shift * step))
        rows.append((*key, rate, float(loss[best]), inside))
    return pd.DataFrame(rows, columns=[*CURVE, "model.depth", "seed", "rate", "loss", "inside"])


def drifts(cells: pd.DataFrame) -> pd.DataFrame:
    """By curve: octaves that the best rate moves per doubling of depth, the price of not retuning, the deepest loss.

    A curve's ``fresh`` seeds, which had no part in the choice of `RECOMMENDED`, are a row of their own.
    """
    best = optima(cells)
    best["fresh"] = _fresh(best)
    rows = []
    for (*key, fresh), part in best.groupby([*CURVE, "fresh"], sort=False):
        depths = sorted(part["model.depth"].unique())
        if len(depths) < 2:
            continue
        drift = line(np.log2(part["model.depth"]), np.log2(part["rate"]))
        shallow, deep = (part[part["model.depth"] == depth] for depth in (depths[0], depths[-1]))
        runs = _of(cells, key)
        deepest = runs[(runs["model.depth"] == depths[-1]) & runs["seed"].isin(part["seed"])]
        rows.append(
            {
                **dict(zip(CURVE, key, strict=True)),
                "fresh": fresh,
                "seeds": part["seed"].nunique(),
                "deepest": depths[-1],
                "drift": drift.value,
                "low": drift.low,
                "high": drift.high,
                "inside": bool(part["inside"].all()),
                "loss_shallow": float(np.exp(np.log(shallow["loss"]).mean())),
                "loss_deep": float(np.exp(np.log(deep["loss"]).mean())),
                "price": _price(deepest, shallow["rate"], deep["loss"]),
            }
        )
    return pd.DataFrame(rows)


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Drift per doubling of depth by rule."""
    every = drifts(cells)
    table = every[~every["fresh"]]
    plain = table[table["model.richness"] == 1.0].set_index("model")
    found = []
    for model, low, high, source, says in (
        ("nup", -0.25, 0.25, PAPER, "depth needs no smaller learning rate in training"),
        ("nup_growth_1_5", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("nup_growth_0", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("mup_inverse_depth", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("mup", -np.inf, -0.75, DERIVED, "the best rate falls at least in inverse proportion to depth"),
    ):
        if model not in plain.index:
            continue
        row = plain.loc[[model]].iloc[-1]
        measured = Estimate(row["drift"], row["low"], row["high"])
        bound = f"at most {high:g}" if low == -np.inf else f"within ±{high:g}"
        found.append(
            Claim(
                f"{model}_drift",
                f"{RULES[model]}, richness 1: {says}.",
                source,
                f"octaves of the best rate per doubling of depth {bound}",
                measured,
                judge(measured, low, high, slack=0.25),
                f"tuned at depth 3, used at depth {row['deepest']}: {row['price']:.2g} times the best loss there",
            )
        )
    candidates = table[table["inside"] | (table["drift"].abs() <= 0.25)]
    flat = candidates[candidates["drift"].abs() <= 0.25]
    chosen = (flat if len(flat) else table).sort_values("loss_deep" if len(flat) else "drift", key=abs).iloc[0]
    measured = Estimate(chosen["drift"], chosen["low"], chosen["high"])
    found.append(
        Claim(
            "flat_setting",
            "There is a setting whose best rate moves by at most a quarter octave per doubling of depth.",
            DERIVED,
            "octaves per doubling of depth within ±0.25; of all such settings the one with the lowest loss at the "
            "largest depth",
            measured,
            judge(measured, -0.25, 0.25, slack=0.25),
            f"{RULES[chosen['model']]}, m = {chosen['model.width']}, richness {chosen['model.richness']:g}; loss "
            f"{chosen['loss_deep']:.3g} at depth {chosen['deepest']}, {chosen['loss_shallow']:.3g} at depth 3",
        )
    )
    fresh = every[every["fresh"]]
    return found + (_confirmed(cells, fresh.iloc[0]) if len(fresh) else [])


def _confirmed(cells: pd.DataFrame, row: pd.Series) -> list[Claim]:
    """What fresh seeds say of the recommended setting."""
    runs = cells[_fresh(cells)]
    best = optima(runs)
    shallow, deep = (best[best["model.depth"] == depth].set_index("seed") for depth in (3, row["deepest"]))
    paid = _at(runs[runs["model.depth"] == row["deepest"]], shallow["rate"]).set_index("seed")["loss"]
    drift = Estimate(row["drift"], row["low"], row["high"])
    price = mean((paid / deep["loss"]).to_numpy())
    setting = f"{RULES[row['model']]}, m = {row['model.width']}, richness {row['model.richness']:g}"
    said = f"chosen on digits, judged on {row['seeds']} seeds that had no part in it"
    return [
        Claim(
            "recommended_drift",
            f"{setting}: the best rate does not move with depth.",
            DERIVED,
            "octaves of the best rate per doubling of depth within ±0.25",
            drift,
            judge(drift, -0.25, 0.25, slack=0.25),
            said,
        ),
        Claim(
            "recommended_price",
            f"{setting}: tuned at depth 3, depth {row['deepest']} pays at most a tenth of its loss.",
            DERIVED,
            f"loss at depth {row['deepest']} with the best rate of depth 3 over that with its own best, at most 1.1",
            price,
            judge(price, 0.0, 1.1, slack=0.1),
            said,
        ),
    ]


def figure(cells: pd.DataFrame) -> Figure:
    """Loss against rate by depth, for the rules that matter most, and the best rate against depth."""
    drawn, axes = panels(3, "Train loss after 60 steps against the learning rate, by depth", rows=2)
    shown = [("mup", 1.0), ("mup_inverse_depth", 1.0), ("nup", 1.0), ("nup_growth_1", 1.0), ("nup_growth_1", 0.333)]
    swept = cells[cells["model"] == "mup_inverse_depth"]  # over depth only; other rules are swept over width too
    depths = sorted((swept if len(swept) else cells)["model.depth"].unique())
    shades = layer_colours(len(depths))
    for axis, (model, richness) in zip(axes, shown, strict=False):
        part = cells[(cells["model"] == model) & (cells["model.richness"] == richness)]
        part = part[part["model.width"] == part["model.width"].mode().min()]
        for index, depth in enumerate(depths):
            curve = part[part["model.depth"] == depth].groupby("schedule.rate")["loss"].median()
            curve = curve[np.isfinite(curve)]
            axis.plot(curve.index, curve, marker="o", markersize=2, color=shades[index], label=f"l = {depth}")
        axis.set(title=f"{RULES[model]}, ρ = {richness:g}", xscale="log", yscale="log", xlabel="η", ylabel="train loss")
        ticks(
            axis,
            [
                rate
                for rate in (0.125, 0.5, 2, 8, 32)
                if part["schedule.rate"].min() <= rate <= part["schedule.rate"].max()
            ],
        )
    axes[0].legend()
    best = optima(cells)
    for (model, width, richness), part in best.groupby(CURVE, sort=False):
        if richness == 1.0 and part["model.depth"].nunique() > 2:
            rates = np.exp(np.log(part.set_index("model.depth")["rate"]).groupby(level=0).mean())
            axes[5].plot(
                rates.index, rates, marker="o", markersize=3, color=COLOURS[model], label=f"{RULES[model]}, m={width}"
            )
    axes[5].set(title="best rate, ρ = 1", xscale="log", yscale="log", xlabel="depth l")
    ticks(axes[5], depths)
    axes[5].legend(fontsize=6)
    return drawn


def _vertex(three: np.ndarray) -> float:
    """Where the parabola through values at −1, 0, 1 (the middle one least) has its minimum."""
    bend = three[0] - 2 * three[1] + three[2]
    return float(0.5 * (three[0] - three[2]) / bend) if bend > 0 else 0.0


def _of(cells: pd.DataFrame, key: tuple) -> pd.DataFrame:
    there = np.logical_and.reduce([cells[name] == value for name, value in zip(CURVE, key, strict=True)])
    return cells[there]


def _fresh(rows: pd.DataFrame) -> pd.Series:
    return np.logical_and.reduce([rows[name] == value for name, value in RECOMMENDED.items()]) & (
        rows["seed"] >= CHOOSING
    )


def _at(runs: pd.DataFrame, rates: pd.Series) -> pd.DataFrame:
    """The runs whose rate is nearest to the geometric mean of some."""
    rate = 2 ** np.log2(rates).mean()
    nearest = min(runs["schedule.rate"].unique(), key=lambda each: abs(np.log(each / rate)))
    return runs[runs["schedule.rate"] == nearest]


def _price(deepest: pd.DataFrame, rates: pd.Series, losses: pd.Series) -> float:
    """Loss at the largest depth with the rate that was best at the smallest, over the best loss there."""
    return float(_at(deepest, rates)["loss"].mean() / np.exp(np.log(losses).mean()))
