"""``summary.json`` and the table that ends a run."""

from __future__ import annotations

import math
import os
import platform
import socket
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eoc.training.callbacks.recorder import Recorder
from eoc.training.module import EdgeOfChaosModule

SHARPNESS = ("sharpness", "lr_x_sharpness")
PACKAGES = ("eoc", "torch", "pytorch-lightning", "hydra-core", "wandb", "numpy")


def summarize(
    module: EdgeOfChaosModule, recorder: Recorder, *, seconds: float, seed: int, overrides: list[str]
) -> dict[str, Any]:
    """Collect a run's outcome as plain values: status, last known and best metrics, and what made them.

    A run that was ended before ``trainer.max_steps``, but not by divergence, is ``stopped``.
    The last rate and its product with λ are those of the last update; losses, λ and features those after it. What was
    not measured there has its t in ``measured_at``, and λ always.
    """
    divergence = module.divergence
    made_all = module.trainer.global_step >= module.trainer.max_steps
    return {
        "status": "diverged" if divergence else "completed" if made_all else "stopped",
        "diverged": {"step": divergence.step, "reason": divergence.reason} if divergence else None,
        "steps": module.trainer.global_step,
        "final": recorder.last,
        "best": recorder.best,
        "measured_at": {
            name: step
            for name, step in recorder.known_at.items()
            if name in SHARPNESS or (step < module.trainer.global_step - 1 and math.isfinite(recorder.last[name]))
        },
        "stability_limit": module.limit,
        "unconverged_probes": recorder.unconverged,
        "parameters": sum(weight.numel() for weight in module.network.weights),
        "widths": list(module.network.widths),
        "seed": seed,
        "overrides": overrides,
        "wall_seconds": seconds,
        "training_seconds": recorder.seconds,
        "ended": time.time(),
        "process": f"{socket.gethostname()}:{os.getpid()}",
        "device": str(module.device),
        "dtype": str(module.network.weights[0].dtype).removeprefix("torch."),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": git_state(),
    }


def table(summary: dict[str, Any], folder: Path) -> str:
    """Lay the outcome out as a short table for a terminal."""
    final = summary["final"]

    def number(name: str, form: str = ".4g") -> str:
        value = final.get(name)
        return "not measured" if value is None else format(value, form)

    limit, steps, at = f"edge of stability: {summary['stability_limit']:g}", summary["steps"], summary["measured_at"]
    old = f" (at step {at['sharpness']})" if at.get("sharpness", steps) < steps else ""
    older = f"at step {at['lr_x_sharpness']}; " if at.get("lr_x_sharpness", steps) < steps - 1 else ""
    rows = [
        ("status", _status(summary)),
        ("steps", f"{summary['steps']} in {summary['wall_seconds']:.1f} s, {summary['parameters']:,} parameters"),
        ("train loss, accuracy", f"{number('train/loss')}, {number('train/accuracy', '.4f')}"),
        ("test loss, accuracy", f"{number('test/loss')}, {number('test/accuracy', '.4f')}"),
        ("sharpness λ", number("sharpness") + old),
        ("learning rate × λ", f"{number('lr_x_sharpness')} ({older}{limit})"),
        ("results", str(folder)),
    ]
    if summary["unconverged_probes"]:
        rows.insert(-1, ("λ uncertain", f"at {summary['unconverged_probes']} probes: hessian/converged is 0"))
    width = max(len(name) for name, _ in rows)
    line = "─" * (width + 2 + max(len(value) for _, value in rows))
    return "\n".join([line, *(f"{name:<{width}}  {value}" for name, value in rows), line])


def line(summary: dict[str, Any], name: str, folder: Path) -> str:
    """Lay the outcome of a sweep's job out as one line."""
    final, status = summary["final"], _status(summary).partition(":")[0]
    known = [f"{key} {final[key]:.4g}" for key in ("train/loss", "test/accuracy") if final.get(key) is not None]
    if summary["unconverged_probes"]:
        known.append(f"λ uncertain at {summary['unconverged_probes']} probes")
    said = ", ".join([status, *known, f"{summary['wall_seconds']:.1f} s"])
    return f"{name}: {said} → {folder.name}"


def _status(summary: dict[str, Any]) -> str:
    if diverged := summary["diverged"]:
        return f"diverged at step {diverged['step']}: {diverged['reason']}"
    return f"stopped at step {summary['steps']}" if summary["status"] == "stopped" else "completed"


@cache
def git_state() -> dict[str, Any] | None:
    """The commit of the source tree and whether it was changed since; None outside a git checkout."""
    here = Path(__file__).resolve().parent
    answers = []
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        answers.append(done.stdout.strip())
    return {"commit": answers[0], "changed": bool(answers[1])}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
