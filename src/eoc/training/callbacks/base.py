"""What the callbacks have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from eoc.errors import InvalidInput, integer
from eoc.training.resume import restoring

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


MOST_DOTS = 1200  # per inch of a figure: that of the summary takes about a gigabyte to draw then


class StepCallback(Callback):
    """A callback in this program's own words: `prepare`, then `before_step` and `after_step` at each t, then `at_end`.

    ``module.step`` is t throughout, and T in `at_end`, where θ_T is there to be measured.
    """

    _state: dict[str, Any] | None = None  # of a checkpoint, until the fit starts

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Network and data are on their device."""

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; a state that has no meaning may raise whatever it trips over."""

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """θ_t is there, η_t is not yet chosen."""

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """θ_{t+1} is there."""

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """θ_T is there; the run is over."""

    # Lightning's hooks

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self._state = state_dict

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        module = _ours(pl_module)
        module.place_data()
        self.prepare(module)
        if self._state is not None:
            with restoring(trainer.ckpt_path, "callbacks"):
                self.take_back(module, self._state)
            self._state = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002, D102
        module = _ours(pl_module)
        module.step = trainer.global_step
        self.before_step(module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002, D102
        self.after_step(_ours(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        module = _ours(pl_module)
        module.step = trainer.global_step
        self.at_end(module)


class Measurement(StepCallback):
    """A callback that writes numbers into the module's metrics of the current step.

    Args:
        every: cadence in steps; steps 0, every, 2·every, … are measured, and the final weights.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = integer("every", every, minimum=1)

    def due(self, step: int) -> bool:
        """Whether ``step`` is one to measure."""
        return step % self.every == 0

    def names(self, module: EdgeOfChaosModule) -> set[str]:  # noqa: ARG002
        """Return the metrics that it writes, known before the run."""
        return set()

    def write(self, module: EdgeOfChaosModule, name: str, value: Tensor) -> None:
        """Write one number; an undefined (NaN) value is left out."""
        number = value.item()
        if not math.isnan(number):
            module.metrics[name] = number

    def by_layer(self, module: EdgeOfChaosModule, name: str, values: Tensor, over_all: Tensor | None = None) -> None:
        """Write ``name/layer_1`` … and ``name/all``; an undefined (NaN) value is left out."""
        whole = [] if over_all is None else [over_all.item()]
        keys = [*(["all"] if whole else []), *module.network.layer_names]
        self.put(module, name, keys, [*whole, *values.tolist()])

    def put(self, module: EdgeOfChaosModule, name: str, keys: Sequence[str], numbers: Sequence[float]) -> None:
        """Write ``name/key`` for every key; an undefined (NaN) value is left out."""
        pairs = zip(keys, numbers, strict=True)
        module.metrics.update({f"{name}/{key}": number for key, number in pairs if not math.isnan(number)})


def drawing(key: str, draw: Any) -> Callable[..., Path]:
    """Return what draws a figure; refuse what cannot be called."""
    if not callable(draw):
        raise InvalidInput(key, draw, "it must be settings with a _target_ and _partial_: true, as in conf/")
    return cast("Callable[..., Path]", draw)


def log_figure(module: EdgeOfChaosModule, name: str, draw: Callable[[], Path]) -> None:
    """Draw, and hand the picture to the loggers that take one; what cannot be drawn is said, and costs nothing else."""
    try:
        figure = draw()
    except Exception as error:
        rank_zero_warn(f"{name}.png could not be drawn: {error}")
        return
    for logger in module.trainer.loggers:
        if takes_images(logger):
            logger.log_image(name, [figure])  # type: ignore[attr-defined]


def takes_images(logger: Logger) -> bool:
    """Whether a logger shows pictures to anybody."""
    return hasattr(logger, "log_image") and getattr(logger, "mode", None) != "disabled"


def _ours(module: LightningModule) -> EdgeOfChaosModule:
    return cast("EdgeOfChaosModule", module)
