"""The W&B workspace as code: ``python -m eoc.tracking.dashboard`` prints it, ``--publish`` puts it into an account."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from eoc.errors import RunFailure
from eoc.tracking.wandb_service import quiet_wandb

NAME = "Edge of Chaos"
FIGURES = ("summary", "sweep", "spectrum")  # images: of a run, of a sweep
MISSING = "wandb-workspaces is not installed: pip install -e '.[dashboards]'."


def workspace(project: str = "eoc", entity: str = "", name: str = NAME) -> Any:
    """Build the workspace: training, edge of stability, cosines, features, curvature cost, sweeps, figures.

    Args:
        project: W&B project.
        entity: W&B user or team.
        name: of the saved view.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``, not yet saved; no account and no network are needed.

    Raises:
        RunFailure: if wandb-workspaces is not installed.
    """
    ws, wr = _libraries()

    def line(title: str, *metrics: str, **settings: Any) -> Any:
        return wr.LinePlot(title=title, x="step", y=list(metrics), title_x="step t", **settings)

    def by_layer(title: str, prefix: str, **settings: Any) -> Any:
        return line(title, metric_regex=f"^{prefix}/layer_[0-9]+$", **settings)

    def by_depth(title: str, metric: str, **settings: Any) -> Any:
        grouped = {"groupby": wr.Config("model.depth"), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
        return line(title, metric, **grouped, **settings)

    def at_depth(title: str, metric: str) -> Any:
        return wr.ScatterPlot(title=title, x=wr.Config("model.depth"), y=wr.SummaryMetric(metric))

    sections = {
        "Training": [
            line("Loss", "train/loss", "test/loss", log_y=True),
            line("Accuracy", "train/accuracy", "test/accuracy", range_y=(0.0, 1.0)),
            line("Learning rate η", "lr", log_y=True),
        ],
        "Edge of stability": [
            line(
                "Sharpness λ, 2/η and 4/η (heavy ball: times 1 + β)",
                custom_expressions=["${sharpness}", "2 / ${lr}", "4 / ${lr}"],
                log_y=True,
            ),
            line("η·λ: catapult between 2 and 4", "lr_x_sharpness"),
            line("Sharpness λ", "sharpness", log_y=True),
            line("Top Hessian eigenvalues", metric_regex="^hessian/eig_[0-9]+$"),
        ],
        "Cosines": [
            line("Cosine of the new with the cumulative update", "cosine/cumulative/all", range_y=(-1.0, 1.0)),
            by_layer("… with the cumulative update, by layer", "cosine/cumulative", range_y=(-1.0, 1.0)),
            line("Cosine of the new with the previous update", "cosine/previous/all", range_y=(-1.0, 1.0)),
            by_layer("… with the previous update, by layer", "cosine/previous", range_y=(-1.0, 1.0)),
            line("Distance from the start", "distance/all"),
            line("Norm of the update", "update_norm/all", log_y=True),
        ],
        "Features": [
            line("Kernel change, 1 − CKA", "features/kernel_change"),
            by_layer("Preactivation change ‖h(t) − h(0)‖/‖h(0)‖", "features/preactivation_change"),
        ],
        "Curvature cost": [
            line("Hessian–vector products a probe", "hessian/products", "hessian/top_products"),
            line("Milliseconds a probe", "hessian/milliseconds", "hessian/top_milliseconds"),
            line("Relative error bound", "hessian/residual", "hessian/top_residual", log_y=True),
            line("Converged", "hessian/converged", "hessian/top_converged", range_y=(0.0, 1.0)),
        ],
        "Sweep, grouped by depth": [
            by_depth("Test loss", "test/loss", log_y=True),
            by_depth("Sharpness λ", "sharpness", log_y=True),
            by_depth("Cosine with the cumulative update", "cosine/cumulative/all"),
            by_depth("Kernel change, 1 − CKA", "features/kernel_change"),
            at_depth("Final test accuracy", "test/accuracy"),
            at_depth("Final sharpness λ", "sharpness"),
            wr.RunComparer(diff_only=True),
        ],
        "Figures": [wr.MediaBrowser(title="At the end of a run, and of a sweep", media_keys=list(FIGURES))],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                name=title,
                panels=panels,
                is_open=True,
                layout_settings=ws.SectionLayoutSettings(columns=3, rows=-(-len(panels) // 3)),
            )
            for title, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="step"),
    )


def specification(project: str = "eoc", entity: str = "", name: str = NAME) -> dict[str, Any]:
    """Return the workspace as W&B stores it, plain data that JSON can hold."""
    model = workspace(project, entity, name)._to_model()
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


def publish(project: str, entity: str | None, name: str = NAME) -> str:
    """Save the workspace as a view of the project and return its address.

    Raises:
        RunFailure: if wandb-workspaces, an account or the network is missing.
    """
    _libraries()
    quiet_wandb()
    import wandb

    try:
        entity = entity or str(wandb.Api(timeout=20).default_entity)
        return str(workspace(project, entity, name).save().url)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        remedy = "`wandb login` sets the key; without an account, leave out --publish"
        raise RunFailure(f"The workspace cannot be published: {reason} ({remedy}).") from error


def main(words: list[str] | None = None) -> int:
    """Print, save or publish the workspace, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m eoc.tracking.dashboard", description=__doc__)
    parser.add_argument("--project", default="eoc", help="W&B project (default: %(default)s)")
    parser.add_argument("--entity", help="W&B user or team (default: the account's)")
    parser.add_argument("--name", default=NAME, help="name of the view (default: %(default)s)")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write the specification there instead of printing it"
    )
    parser.add_argument("--publish", action="store_true", help="save it in the account that `wandb login` has set")
    chosen = parser.parse_args(words)
    try:
        if chosen.publish:
            print(publish(chosen.project, chosen.entity, chosen.name))
            return 0
        text = json.dumps(specification(chosen.project, chosen.entity or "", chosen.name), indent=2, ensure_ascii=False)
        if chosen.save is None:
            print(text, flush=True)
        else:
            chosen.save.write_text(text + "\n", encoding="utf-8")
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to say at the end
    except (RunFailure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _libraries() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is written for an older pydantic
            from wandb_workspaces import workspaces
            from wandb_workspaces.reports import v2
    except ImportError as error:
        raise RunFailure(MISSING) from error
    return workspaces, v2


if __name__ == "__main__":
    sys.exit(main())
