"""The cosine of new and cumulative updates through the phases, and whether it predicts feature learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import (
    DERIVED,
    FAILS,
    HOLDS,
    PARTLY,
    READ,
    UNDECIDED,
    UNKNOWN,
    Claim,
    average,
    bootstrap,
    by_setting,
    exact,
    judged,
    late,
    mean,
    median,
)
from eoc.analysis.claims.course import course
from eoc.analysis.claims.course import course_figure as _course_figure
from eoc.analysis.claims.drawing import COLOURS, RULES, legend, panels
from eoc.analysis.claims.pairs import partial_rank_correlation, rank_correlation
from eoc.analysis.claims.reading import SETTING, History, history, last, reduced

ENOUGH = 10  # settings without which an interval that holds 0 refutes no correlation
DRAWN = 0.01  # about twice how far 10,000 draws of the bootstrap move an end of an interval
EARLY = 30  # steps from which the end is to be predicted
MEASURED = (
    *("late_product", "first_cosine", "early_cosine", "late_cosine", "late_previous", "identity_error"),
    *("early_distance", "kernel_change", "test_accuracy"),
)
SLOW = "slow, η·λ₀ = 0.3"
STABLE, EDGE, BEYOND = PHASES = ("stable", "edge of stability", "catapult")
UNMEASURED = "unmeasured"  # without the callback curvature
DEAD = "dead"  # outputs, gradient and curvature are 0: such a run moves no more, and its cosine is undefined


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: cosines early and late, the distance identity's error, the phase, and what was learned."""
    kept = reduced(runs, _measure, (*SETTING, "schedule", "schedule.rate", "schedule.kappa"))
    missing = [name for name in MEASURED if name not in kept]  # no run was long enough
    return kept.assign(**dict.fromkeys(missing, np.nan))


def _measure(columns: History) -> dict[str, float | str]:
    cosine = columns["cosine/cumulative/all"]
    if len(cosine) <= EARLY + 1:  # it diverged before anything could be predicted
        return {"phase": "diverged"}
    update, distance = columns["update_norm/all"], columns["distance/all"]
    along = np.nansum(cosine[1:-1] * update[1:-1] * distance[1:-1])
    travelled = last(columns, "distance/all") ** 2
    own = np.nansum(update**2)
    moved = [last(columns, name) for name in columns if name.startswith("features/preactivation_change/")][:-1]
    level = _mean(columns["lr_x_sharpness"])
    return {
        "phase": _phase(level),
        "late_product": level,
        "first_cosine": float(cosine[1]),
        "early_cosine": average(cosine[1 : EARLY + 1]),
        "late_cosine": _mean(cosine[:-1]),
        "late_previous": median(late(columns["cosine/previous/all"][:-1])),
        "identity_error": abs(travelled - own - 2 * along) / travelled,
        "share_along": 2 * along / travelled,
        "early_distance": float(distance[EARLY]),
        "kernel_change": last(columns, "features/kernel_change"),
        "preactivation_change": average(moved),
        "train_loss": last(columns, "train/loss"),
        "test_accuracy": last(columns, "test/accuracy"),
    }


def _mean(values: np.ndarray) -> float:
    """The mean of the second half: where training bounces, a median falls between the two sides."""
    return average(late(values))


def _phase(level: float) -> str:
    if np.isnan(level):
        return UNMEASURED
    return DEAD if level == 0 else STABLE if level < 1.9 else EDGE if level <= 2.1 else BEYOND


def course_table(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Cosines, distance and features by step, see `eoc.analysis.claims.course`; the slowest runs are a phase apart.

    Args:
        runs: the runs that ended, one row each.
        cells: what `cells` made of them, in the same order.
    """
    pairs = zip(runs["path"], cells.to_dict("records"), strict=True)
    return course(
        (SLOW if cell["schedule.rate"] == 0.3 else cell["phase"], cell["model"], cell["model.depth"], history(path))
        for path, cell in pairs
        if cell["status"] == "completed"
    )


def course_figure(found: pd.DataFrame) -> Figure:
    """Every quantity through the phases."""
    return _course_figure(found, (SLOW, *PHASES))


def claims(cells: pd.DataFrame) -> list[Claim]:
    """The course of the cosine, and the test of the hypothesis."""
    done = _alive(cells)
    done = done.assign(rate=done["schedule.rate"].fillna(done["schedule.kappa"]))
    setting, lost = [name for name in (*SETTING, "schedule", "rate") if name != "seed"], len(cells) - len(done)
    stable, edge, beyond = (done[done["phase"] == phase] for phase in PHASES)
    found = [
        judged(
            "identity",
            "‖U_T‖² = Σ‖Δ_t‖² + 2Σ⟨Δ_t, U_t⟩, from the logged cosines, norms and distances.",
            DERIVED,
            "relative error of the worst run at most 1e-6",
            exact(done["identity_error"].max()),
            (0.0, 1e-6),
        ),
        judged(
            "starts_at_one",
            "The cosine starts near 1: in the slowest runs the second update goes on where the first went.",
            DERIVED,
            "cosine at step 1 of runs with η·λ_0 = 0.3 at least 0.9",
            mean(by_setting(done[done["schedule.rate"] == 0.3], "first_cosine", setting)),
            (0.9, 1.0),
            0.1,
        ),
        judged(
            "positive_while_stable",
            "While training is stable, updates keep going where they went: the late cosine is positive.",
            DERIVED,
            "mean over the second half, over seeds and settings below the edge (η·λ < 1.9), at least 0.1",
            mean(by_setting(stable, "late_cosine", setting)),
            (0.1, 1.0),
            0.1,
        ),
        judged(
            "near_zero_at_the_edge",
            "At the edge of stability the cosine is near 0.",
            DERIVED,
            "mean over the second half, over seeds and settings at the edge (η·λ from 1.9 to 2.1), within ±0.1",
            mean(by_setting(edge, "late_cosine", setting)),
            (-0.1, 0.1),
            0.1,
        ),
        judged(
            "negative_in_the_catapult",
            "In the catapult phase the cosine is negative: updates turn back.",
            DERIVED,
            "mean over the second half, over seeds and settings beyond the edge (η·λ > 2.1), below 0",
            mean(by_setting(beyond, "late_cosine", setting)),
            (-np.inf, 0.0),
        ),
        judged(
            "bouncing_in_the_catapult",
            "In the catapult phase updates bounce: the cosine with the previous one is near −1.",
            DERIVED,
            "median over the second half, mean over seeds and settings beyond the edge (η·λ > 2.1), at most −0.8",
            mean(by_setting(beyond, "late_previous", setting)),
            (-np.inf, -0.8),
        ),
    ]
    for name, quantity, words, source in (
        ("predicts_features", "kernel_change", "how far the features move in the end (1 − CKA)", READ),
        ("predicts_accuracy", "test_accuracy", "the final test accuracy", DERIVED),
    ):
        known = done.dropna(subset=["early_cosine", quantity])
        groups = known.groupby(setting, sort=False, dropna=False).ngroup()
        measured = bootstrap(known[["early_cosine", quantity]], rank_correlation, draws=10_000, groups=groups)
        constant = known[known["schedule"] == "constant"]
        partial = partial_rank_correlation(constant[["early_cosine", quantity, "rate"]].to_numpy())
        rate = rank_correlation(constant[["rate", quantity]].to_numpy())
        distance = rank_correlation(known[["early_distance", quantity]].to_numpy())
        within = [rank_correlation(part[["early_cosine", quantity]].to_numpy()) for _, part in done.groupby("model")]
        size = abs(measured.value)
        strong = measured.low * measured.high > 0 and min(abs(measured.low), abs(measured.high)) > DRAWN
        refuted = measured.low > -0.5 and measured.high < 0.5 and groups.nunique() >= ENOUGH
        verdict = HOLDS if strong and size >= 0.5 else PARTLY if strong else FAILS if refuted else UNDECIDED
        verdict = UNKNOWN if np.isnan(measured.value) else verdict
        found.append(
            Claim(
                name,
                f"The cosine of the first {EARLY} steps predicts {words}, across rules, depths and rates.",
                source,
                "rank correlation at least 0.5 in size, its interval (over settings) further than 0.01 from 0; one "
                "with 0 and without ±0.5 refutes it",
                measured,
                verdict,
                f"{pd.Series(within).mean():.2f} within one rule on average, {partial:.2f} at constant rates with "
                f"η·λ_0 held fixed; for comparison, the distance travelled in those steps {distance:.2f}, η·λ_0 at "
                f"constant rates {rate:.2f}; {len(known)} runs" + (f", {lost} diverged or died" if lost else ""),
            )
        )
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """Late cosine against η·λ, and what the early cosine says about the end."""
    drawn, axes = panels(3, "Cosine of new and cumulative updates, one point a run")
    done = _alive(cells)
    for model, part in done.groupby("model", sort=False):
        style: dict[str, Any] = {"s": 14, "color": COLOURS[model], "label": RULES[model], "alpha": 0.8}
        axes[0].scatter(part["late_product"], part["late_cosine"], **style)
        axes[1].scatter(part["early_cosine"], part["kernel_change"], **style)
        axes[2].scatter(part["early_cosine"], part["test_accuracy"], **style)
    axes[0].axvline(2.0, color="black", linewidth=0.8, linestyle=":")
    axes[0].set(xlabel="η·λ, mean of the second half", ylabel="cosine, mean of the second half")
    axes[1].set(xlabel=f"cosine, mean of steps 1–{EARLY}", ylabel="final 1 − CKA of the last hidden layer")
    axes[2].set(xlabel=f"cosine, mean of steps 1–{EARLY}", ylabel="final test accuracy")
    legend(axes[0])
    return drawn


def _alive(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[(cells["status"] == "completed") & (cells["phase"] != DEAD)]
