"""Does η = κ/λ prolong the catapult phase, and at what price?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import DERIVED, Claim, exact, judged, largest, late, mean, median, ratio
from eoc.analysis.claims.drawing import CYCLE, legend, panels, ticks
from eoc.analysis.claims.paired import beyond_the_edge, paired, prolonging
from eoc.analysis.claims.reading import SETTING, History, final_loss, first, last, reduced

OURS = ("schedule.rate", "schedule.kappa", "schedule.interval", "schedule.smoothing", "schedule.cooldown")
BEGUN = 0.02  # share of a run after which a loss that is above its start counts as unbounded


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: η·λ where λ was measured and by the independent solver now and then, λ, losses and cost."""
    settings = (*SETTING, "schedule", *[name for name in OURS if name in runs], "trainer.max_steps", "seconds")
    kept = reduced(runs, _measure, settings)
    kept.insert(0, "rule", [_rule(row) for _, row in kept.iterrows()])
    return kept


def _measure(columns: History) -> dict[str, float]:
    product, checked, loss = columns["lr_x_sharpness"], columns["reference/lr_x_sharpness"], columns["train/loss"]
    second, end, reference = late(product), late(product, 0.1), late(checked)
    empty = not len(second) or not len(reference)
    low, middle, high = [np.nan] * 3 if empty else np.quantile(second, [0.05, 0.5, 0.95])
    with np.errstate(invalid="ignore", divide="ignore"):  # λ of a dead network is 0
        differences = np.abs(columns["reference/sharpness"] / columns["sharpness"] - 1)
    smooth = np.where(columns["reference/kinks"] == 0, differences, np.nan)  # where both precisions see one Hessian
    begun = loss[max(1, int(len(loss) * BEGUN)) :]
    return {
        "share_beyond": float("nan") if empty else float((second > 2.0).mean()),
        "product": float(middle),
        "product_low": float(low),
        "product_high": float(high),
        "reference_smallest": float("nan") if empty else float(reference.min()),
        "reference_largest": float("nan") if empty else float(reference.max()),
        "checks": int(np.isfinite(smooth).sum()),
        "missed": int((smooth > 1e-3).sum()),
        "solvers_differ": largest(smooth),
        "on_kinks": int(np.isfinite(differences).sum() - np.isfinite(smooth).sum()),
        "kinks_differ": float(np.nanmax(np.where(np.isfinite(smooth), 0.0, differences), initial=0.0)),
        "products": np.nansum(columns.get("hessian/products", 0.0)),
        "kinks_end": last(columns, "reference/kinks"),
        "product_end": median(end),
        "sharpness": median(late(columns["reference/sharpness"])),
        "sharpness_end": median(late(columns["sharpness"], 0.1)),
        "loss_start": first(columns, "train/loss"),
        "loss": median(late(loss)),
        "loss_largest": largest(late(loss)),
        "loss_peak": largest(begun),
        "train_loss": final_loss(columns),
        "test_loss": last(columns, "test/loss"),
        "test_accuracy": last(columns, "test/accuracy"),
    }


def _rule(row: pd.Series) -> str:
    schedule = row["schedule"]
    if schedule == "geometric":
        extras = [f"κ = {row['schedule.kappa']:g}"]
        extras += [f"every {row['schedule.interval']:g}"] * (row["schedule.interval"] != 1)
        extras += [f"mean of {row['schedule.smoothing']:g}"] * (row["schedule.smoothing"] != 1)
        extras += ["cooldown"] * (row["schedule.cooldown"] > 0)
        return "geometric " + ", ".join(extras)
    return f"{schedule} {row['schedule.rate']:g}/λ₀"


def claims(cells: pd.DataFrame) -> list[Claim]:
    """What the schedule promises, in the default run and in one ten times as long."""
    steps = sorted(cells["trainer.max_steps"].unique())
    short, long = (cells[cells["trainer.max_steps"] == length] for length in (steps[0], steps[-1]))
    plain = short[short["rule"].str.fullmatch(r"geometric κ = [\d.]+")]
    held, fading = long[long["schedule"] == "geometric"], long[long["schedule"] == "constant"]
    done = cells[cells["status"] == "completed"]
    found = [
        _holds_kappa("holds_kappa", plain, "of every κ"),
        _holds_kappa("holds_kappa_long", held, f"of {steps[-1]} steps"),
        _solvers_agree(done),
        *prolonging(held, fading, steps[-1]),
        *beyond_the_edge(plain[plain["schedule.kappa"] == 2.5], plain[plain["schedule.kappa"] == 1.5]),
    ]
    decayed, others = (done[(done["schedule"] == "cosine") == so] for so in (True, False))
    rare = short[short["rule"].isin(["geometric κ = 2.5, every 3", "geometric κ = 2.5, every 5"])]
    cooled, hot = (short[short["rule"] == f"geometric κ = 2.5{end}"] for end in (", cooldown", ""))
    if len(decayed):
        found.append(
            judged(
                "rests_on_kinks",
                "A rate that decays from beyond the edge to 0 lets ReLU networks rest on kinks, where λ jumps.",
                DERIVED,
                "fewest preactivations whose sign float32 and float64 see differently at a cosine run's end, ≥ 1",
                exact(float(decayed["kinks_end"].min())),
                (1.0, np.inf),
                remark=f"of the other runs, {int((others['kinks_end'] > 0).sum())} in {len(others)} end on one",
            )
        )
    if len(rare):
        width = (rare["product_high"] - rare["product_low"]) / rare["schedule.kappa"]
        found.append(
            judged(
                "rare_probes",
                "With a probe every 3 or 5 steps η·λ still stays near κ.",
                DERIVED,
                "width of the 5–95% range of η·λ over κ in the second half, by seed, at most 0.2",
                mean(width.groupby(rare["seed"]).mean()),
                (0.0, 0.2),
                0.2,
                f"from {width.min():.2f} to {width.max():.2f} in all runs; λ bounces with period two: a rate kept for "
                "several steps meets both sides of the valley",
            )
        )
    if len(cooled) and len(hot):
        found += _cooldown(cooled, hot)
    return found


def _cooldown(cooled: pd.DataFrame, hot: pd.DataFrame) -> list[Claim]:
    """What the same run gains and loses by ending below the edge; tables without ``sharpness_end`` do not tell λ."""
    found = [
        judged(
            "cooldown",
            "A cooldown of κ below 2 at the end lets the loss converge.",
            DERIVED,
            "final train loss with cooldown over that without, below 1",
            ratio(paired(cooled, hot, "train_loss", np.divide)),
            (0.0, 1.0),
        )
    ]
    if "sharpness_end" in cooled:
        found.append(
            judged(
                "cooldown_flat",
                "A cooldown leaves the network where it is flat.",
                DERIVED,
                "median sharpness of the last tenth with cooldown over that without, at most 1.25",
                ratio(paired(cooled, hot, "sharpness_end", np.divide)),
                (0.0, 1.25),
            )
        )
    return found


def _holds_kappa(name: str, part: pd.DataFrame, words: str) -> Claim:
    done = part[part["status"] == "completed"]
    strays = pd.concat([done[f"reference_{end}"] / done["schedule.kappa"] for end in ("largest", "smallest")])
    return judged(
        name,
        f"With a probe at every step the geometric schedule holds η·λ at κ (runs {words}).",
        DERIVED,
        "largest |η·λ/κ − 1| of the second half, λ by an independent solver, at most 0.02",
        exact(float((strays - 1).abs().max())),
        (0.0, 0.02),
        0.02,
    )


def _solvers_agree(done: pd.DataFrame) -> Claim:
    return judged(
        "solvers_agree",
        "The λ that steers is right: an independent solver (SciPy's Lanczos, float64) finds the same.",
        DERIVED,
        "largest relative difference of λ over all runs that did not diverge, at most 2e-3; checks on a kink apart",
        exact(float(done["solvers_differ"].max())),
        (0.0, 2e-3),
        3e-3,
        f"in {int(done['missed'].sum())} of {int(done['checks'].sum())} checks they differ by more than the "
        f"tracker's tolerance, 1e-3; {int(done['on_kinks'].sum())} more were on a kink, where float32 and float64 "
        f"see different signs of a preactivation, and differ by up to {done['kinks_differ'].max():.1g}",
    )


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by rule and length: what a reader compares."""
    numbers = ["share_beyond", "product", "product_low", "product_high", "sharpness", "loss", "loss_largest"]
    numbers += ["train_loss", "test_loss", "test_accuracy", "products"]
    return cells.groupby(["rule", "trainer.max_steps"], sort=False)[numbers].mean().reset_index()


def figure(cells: pd.DataFrame) -> Figure:
    """Late η·λ by rule with its range, and what each rule reached: means over seeds, and from the least to the most."""
    rows = table(cells).iloc[::-1].reset_index(drop=True)
    by_rule = cells.groupby(["rule", "trainer.max_steps"], sort=False)
    names = [f"{row['rule']} ({row['trainer.max_steps']} steps)" for _, row in rows.iterrows()]
    drawn, axes = panels(3, "Learning-rate schedules (νP, depth 4): second half of each run")
    drawn.set_size_inches(11.5, 0.26 * len(rows) + 1.2)
    at = np.arange(len(rows))
    spread = np.array([rows["product"] - rows["product_low"], rows["product_high"] - rows["product"]])
    axes[0].errorbar(rows["product"], at, xerr=spread, fmt="o", markersize=4, color=CYCLE[0])
    axes[0].axvline(2.0, color="black", linewidth=0.8, linestyle=":")
    axes[0].set(title="η·λ where measured (5–95%)")
    axes[0].set_yticks(at, names, fontsize=7)
    for axis, name, colour in ((axes[1], "sharpness", 2), (axes[2], "train_loss", 3), (axes[2], "test_loss", 1)):
        reach = np.abs(by_rule[name].agg(["min", "max"]).to_numpy()[::-1].T - rows[name].to_numpy())
        label = name.removesuffix("_loss")
        axis.errorbar(rows[name], at, xerr=reach, fmt="o", markersize=3.5, color=CYCLE[colour], label=label)
    axes[1].set(title="sharpness λ (range over seeds)", xscale="log")
    low, high = axes[1].get_xlim()
    ticks(axes[1], [each for each in (0.25, 0.5, 1, 2, 4, 8) if low <= each <= high])
    axes[2].set(title="final loss (range over seeds)", xscale="log")
    legend(axes[2])
    for axis in axes[1:]:
        axis.set_yticks(at, [])
    return drawn
