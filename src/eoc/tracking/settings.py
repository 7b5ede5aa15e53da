"""Which settings make a run the one that it is; the others (paths, loggers, names, Hydra's own) change no number."""

from __future__ import annotations

KEPT = ("model", "dataset", "loss", "optimizer", "schedule", "curvature", "seed")  # what a checkpoint keeps
COUNTED = (*KEPT, "trainer", "callbacks")
SILENT = ("progress", "summary_figure", "checkpoint")  # callbacks that change no number
START = "ckpt_path"  # a run that starts elsewhere is another one


def counts(key: str) -> bool:
    """Whether a group, or a setting by its dotted name, is part of a run's identity."""
    group, _, rest = key.partition(".")
    return key == START or (group in COUNTED and not (group == "callbacks" and rest.partition(".")[0] in SILENT))
