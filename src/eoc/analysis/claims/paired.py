"""Schedules compared seed by seed: what the catapult gains over a constant rate, and over stable descent."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eoc.analysis.claims.base import DERIVED, KNOWN, READ, Claim, exact, judged, mean, ratio


def paired(one: pd.DataFrame, other: pd.DataFrame, quantity: str, combine: np.ufunc) -> np.ndarray:
    """A quantity of one group of runs combined with that of another, seed by seed: of several runs their mean."""
    pair = pd.concat([group.groupby("seed")[quantity].mean() for group in (one, other)], axis=1).to_numpy()
    return np.asarray(combine(pair[:, 0], pair[:, 1]))


def prolonging(held: pd.DataFrame, fading: pd.DataFrame, steps: int) -> list[Claim]:
    """The schedule in long runs, and against the constant rate that starts where it starts."""
    late_product = f"median η·λ of the last tenth of {steps} steps"
    return [
        judged(
            "prolongs",
            f"The geometric schedule stays in the catapult band to the end of a run of {steps} steps.",
            READ,
            "smallest η·λ of the second half, λ by an independent solver, above 2",
            exact(float(held["reference_smallest"].min())),
            (2.0, np.inf),
        ),
        judged(
            "bounded",
            "Meanwhile the loss stays bounded.",
            READ,
            "largest loss after the first 2% of the run over the first loss, at most 1",
            exact(float((held["loss_peak"] / held["loss_start"]).max())),
            (0.0, 1.0),
            0.5,
        ),
        judged(
            "constant_fades",
            "At a constant rate from the same start the catapult fades: η·λ falls back to 2.",
            KNOWN,
            f"{late_product} within 2 ± 0.2",
            mean(fading["product_end"]),
            (1.8, 2.2),
            0.6,
            f"just above it: in the second half {100 * fading['share_beyond'].mean():.3g}% of the measured steps "
            "are beyond 2",
        ),
        judged(
            "beyond_constant",
            "There the schedule is further beyond the edge than the constant rate.",
            DERIVED,
            f"{late_product}, difference at least 0.2",
            mean(paired(held, fading, "product_end", np.subtract)),
            (0.2, np.inf),
        ),
        judged(
            "flatter_than_constant",
            f"After {steps} steps it is flatter there than where the constant rate has led.",
            DERIVED,
            "ratio of late sharpness, schedule to constant rate, below 1",
            ratio(paired(held, fading, "sharpness", np.divide)),
            (0.0, 1.0),
            remark=f"ratio of final train losses {ratio(paired(held, fading, 'train_loss', np.divide)).value:.2g}",
        ),
        judged(
            "better_than_constant",
            f"After {steps} steps it generalizes better than where the constant rate has led.",
            DERIVED,
            "final test accuracy, schedule less constant rate, above 0",
            mean(paired(held, fading, "test_accuracy", np.subtract)),
            (0.0, np.inf),
        ),
    ]


def beyond_the_edge(beyond: pd.DataFrame, stable: pd.DataFrame) -> list[Claim]:
    """What κ = 2.5 reaches in the steps in which κ = 1.5 descends without catapults."""
    return [
        judged(
            "flatter",
            "It leads into flat regions: the sharpness at κ = 2.5 is below that of stable descent at κ = 1.5.",
            DERIVED,
            "ratio of late sharpness, κ = 2.5 to 1.5, below 1",
            ratio(paired(beyond, stable, "sharpness", np.divide)),
            (0.0, 1.0),
        ),
        judged(
            "faster",
            "Beyond the edge the train loss falls faster: at κ = 2.5 it ends below that of κ = 1.5.",
            DERIVED,
            "ratio of final train losses, κ = 2.5 to 1.5, below 1",
            ratio(paired(beyond, stable, "train_loss", np.divide)),
            (0.0, 1.0),
        ),
        judged(
            "better",
            "The flatter networks generalize better: test accuracy at κ = 2.5 is above that at κ = 1.5.",
            DERIVED,
            "final test accuracy, κ = 2.5 less 1.5, above 0",
            mean(paired(beyond, stable, "test_accuracy", np.subtract)),
            (0.0, np.inf),
        ),
    ]
