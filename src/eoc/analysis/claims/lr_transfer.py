"""Which learning rate is best, and how far it drifts with depth and width."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import DERIVED, KNOWN, READ, Claim, Estimate, judge, line, mean, ratio
from eoc.analysis.claims.best_rate import CHOSEN, CURVE, Chosen, at, drifts, judge_still, judged_drift, optima
from eoc.analysis.claims.drawing import COLOURS, RULES, legend, panels, ticks
from eoc.analysis.claims.reading import SETTING, final_loss, reduced
from eoc.analysis.style import layer_colours


def cells(runs: pd.DataFrame, rate: str = "schedule.rate") -> pd.DataFrame:
    """One row a run: its rate and the geometric mean of the last losses, infinite if it diverged."""
    kept = reduced(runs, lambda columns: {"loss": final_loss(columns)}, (*SETTING, rate))
    kept.loc[kept["status"] != "completed", "loss"] = np.inf
    return kept


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Drift per doubling of depth by rule."""
    every = drifts(cells)
    table = every[~every["fresh"]]
    plain = table[table["model.richness"] == 1.0].set_index("model")
    found = []
    for model, low, high, source, says in (
        ("nup", -0.25, 0.25, READ, "depth needs no smaller learning rate in training"),
        ("nup_growth_1_5", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("nup_growth_0", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("mup_inverse_depth", -0.25, 0.25, DERIVED, "the best rate does not move with depth"),
        ("mup", -np.inf, -0.75, DERIVED, "the best rate falls at least in inverse proportion to depth"),
    ):
        if model not in plain.index:
            continue
        row = plain.loc[[model]].iloc[-1]
        measured = Estimate(row["drift"], row["low"], row["high"])
        paid = f"{row['price']:.2g} times the best loss there" if np.isfinite(row["price"]) else "some diverge"
        bound = f"at most {high:g}" if low == -np.inf else f"within ±{high:g}"
        found.append(
            Claim(
                f"{model}_drift",
                f"{RULES[model]}, richness 1: {says}.",
                source,
                f"octaves of the best rate per doubling of depth {bound}",
                measured,
                judge(measured, low, high, slack=0.25) if low == -np.inf else judged_drift(row)[1],
                f"{row['course']}; tuned at depth 3, used at depth {row['deepest']}: {paid}",
            )
        )
    found += _over_width(cells)
    if len(table):
        found.append(_flat_setting(table))
    for _, row in every[every["fresh"]].iterrows():
        found += _confirmed(cells, row, next(one for one in CHOSEN if one.richness == row["model.richness"]))
    return found


def _flat_setting(table: pd.DataFrame) -> Claim:
    """Of the settings whose best rate hardly moves the one with the lowest loss; or else the one that moves least."""
    still = table[table["drift"].abs() <= 0.25]
    for candidates in (still[still["inside"]], still):  # those with an optimum at an end of the rates tried last
        if len(candidates):
            chosen = candidates.sort_values("loss_deep").iloc[0]
            break
    else:
        known = table[table["inside"]] if table["inside"].any() else table
        chosen = known.sort_values("drift", key=abs).iloc[0]
    measured, verdict = judged_drift(chosen)
    return Claim(
        "flat_setting",
        "There is a setting whose best rate moves by at most a quarter octave per doubling of depth.",
        DERIVED,
        "octaves per doubling of depth within ±0.25; of all such settings the one with the lowest loss at the "
        "largest depth, undecided if all have an optimum at an end of the rates tried",
        measured,
        verdict,
        f"{RULES[chosen['model']]}, m = {chosen['model.width']}, richness {chosen['model.richness']:g}; loss "
        f"{chosen['loss_deep']:.3g} at depth {chosen['deepest']}, {chosen['loss_shallow']:.3g} at depth 3",
    )


def _over_width(cells: pd.DataFrame) -> list[Claim]:
    """The best rate against width, where several widths of one depth were run."""
    best = optima(cells)
    best = best[best["model.richness"] == 1.0]
    found = []
    for model, source in (("mup", KNOWN), ("nup", DERIVED), ("nup_growth_1_5", DERIVED)):
        for depth, part in best[best["model"] == model].groupby("model.depth"):
            if part["model.width"].nunique() > 1:
                drift = line(np.log2(part["model.width"]), np.log2(part["rate"]))
                found.append(
                    Claim(
                        f"{model}_width_drift",
                        f"{RULES[model]}: the best rate does not move with width.",
                        source,
                        f"octaves of the best rate per doubling of width within ±0.25, depth {depth}",
                        drift,
                        judge_still(drift, inside=bool(part["inside"].all())),
                        f"widths {', '.join(str(width) for width in sorted(part['model.width'].unique()))}",
                    )
                )
    return found


def _confirmed(cells: pd.DataFrame, row: pd.Series, chosen: Chosen) -> list[Claim]:
    """What fresh seeds say of a chosen setting."""
    runs = cells[chosen.fresh(cells)]
    best = optima(runs)
    shallowest = best["model.depth"].min()
    shallow, deep = (best[best["model.depth"] == depth].set_index("seed") for depth in (shallowest, row["deepest"]))
    deepest = runs[runs["model.depth"] == row["deepest"]]
    paid = at(deepest, shallow["rate"]).set_index("seed")["loss"]
    drift, verdict = judged_drift(row)
    ratios = (paid / deep["loss"]).to_numpy()
    price = ratio(ratios)
    lost = int(np.isinf(ratios).sum())
    setting = f"{RULES[row['model']]}, m = {row['model.width']}, richness {row['model.richness']:g}"
    said = f"chosen from {chosen.after}, judged on {row['seeds']} seeds that had no part in it"
    return [
        Claim(
            f"{chosen.name}_drift",
            f"{setting}: the best rate does not move with depth.",
            DERIVED,
            "octaves of the best rate per doubling of depth within ±0.25",
            drift,
            verdict,
            f"{said}; {row['course']}",
        ),
        _largest_step(best, f"{chosen.name}_steps", setting, inside=bool(row["inside"])),
        Claim(
            f"{chosen.name}_price",
            f"{setting}: tuned at depth {shallowest}, depth {row['deepest']} pays at most a tenth of its loss.",
            DERIVED,
            f"loss at depth {row['deepest']} with the rate tried nearest to the mean best one of depth {shallowest}, "
            "over that with its own best, at most 1.1",
            price,
            judge(price, 0.0, 1.1, slack=0.1),
            f"{said}; {_common(deepest, paid)}" + (f"; {lost} of them diverge at that rate" if lost else ""),
        ),
    ]


def _largest_step(best: pd.DataFrame, name: str, setting: str, *, inside: bool) -> Claim:
    """How far the best rate moves from one depth to the next: a rise and a fall cancel in its slope."""
    rates = np.log2(best.pivot_table(index="seed", columns="model.depth", values="rate")).sort_index(axis=1)
    depths = rates.columns.to_numpy(dtype=float)
    moves = (rates.diff(axis=1).iloc[:, 1:] / np.diff(np.log2(depths))).to_numpy()
    steps = {f"{depths[i]:g} to {depths[i + 1]:g}": mean(moves[:, i]) for i in range(len(depths) - 1)}
    measured = max(steps.values(), key=lambda each: abs(each.value))
    return Claim(
        name,
        f"{setting}: nor does the best rate move between neighbouring depths.",
        DERIVED,
        "octaves of the best rate per doubling from one depth to the next, the largest within ±0.25",
        measured,
        judge_still(measured, inside=inside),
        "; ".join(f"{which}: {step}" for which, step in steps.items()),
    )


def _common(runs: pd.DataFrame, paid: pd.Series) -> str:
    """What was paid, over the loss at the rate that is best for all seeds together."""
    losses = runs.pivot_table(index="seed", columns="schedule.rate", values="loss", dropna=False).fillna(np.inf)
    with np.errstate(divide="ignore"):
        best = np.log(losses).mean().idxmin()
    return f"over the loss at the one rate that is best for all of them {ratio((paid / losses[best]).to_numpy())}"


def figure(cells: pd.DataFrame) -> Figure:
    """Loss against rate by depth, for the rules that matter most, and the best rate against depth."""
    drawn, axes = panels(3, "Train loss after 60 steps against the learning rate, by depth", rows=2)
    lower = min((one.richness for one in CHOSEN if one.fresh(cells).any()), default=0.333)
    shown = [("mup", 1.0), ("mup_inverse_depth", 1.0), ("nup", 1.0), ("nup_growth_1", 1.0), ("nup_growth_1", lower)]
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
    legend(axes[0])
    best = optima(cells)
    for (model, width, richness), part in best.groupby(CURVE, sort=False):
        if richness == 1.0 and part["model.depth"].nunique() > 2:
            rates = np.exp(np.log(part.set_index("model.depth")["rate"]).groupby(level=0).mean())
            axes[5].plot(
                rates.index, rates, marker="o", markersize=3, color=COLOURS[model], label=f"{RULES[model]}, m={width}"
            )
    axes[5].set(title="best rate, ρ = 1", xscale="log", yscale="log", xlabel="depth l")
    ticks(axes[5], depths)
    legend(axes[5], fontsize=6)
    return drawn
