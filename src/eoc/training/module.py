"""The LightningModule: an MLP, its data in memory, full-batch or minibatch gradient descent under a schedule.

Row t of the metrics describes the weights θ_t and the update Δ_t = θ_{t+1} − θ_t that was taken from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from eoc.data import Batches, Dataset
from eoc.dynamics.curvature import NonFiniteCurvature
from eoc.dynamics.update_cosines import UpdateCosines, UpdateGeometry
from eoc.errors import under
from eoc.model import MLP
from eoc.schedule import Schedule, stability_limit
from eoc.training.evaluation import accuracy_of, evaluated, over_ranks
from eoc.training.optimizer import LayerwiseSGD
from eoc.training.probe import CurvatureProbe, complain
from eoc.training.random_state import random_state, restore_random_state
from eoc.training.resume import counted, restoring


@dataclass(frozen=True)
class Divergence:
    """Where and why a run stopped being finite or bounded."""

    step: int
    reason: str


class EdgeOfChaosModule(LightningModule):
    """Gradient descent on A_k with rates η_t·g_k, η_t from a schedule that is told the sharpness when it asks.

    Callbacks write what they measure into ``metrics`` (name → number or 0-dim tensor); the recorder empties it once
    a step. Whatever the schedule asks for is measured here with a probe of the module's own, so that callbacks
    never change a weight.

    Args:
        network: the MLP.
        dataset: training and test tensors.
        loss: mean loss of (outputs, targets).
        schedule: the rule for η_t.
        make_probe: makes a curvature probe of k eigenvalues; called for the schedule's, and by the curvature callback.
        momentum: β of heavy-ball gradient descent, 0 for plain.
        seed: of the minibatches' order.
    """

    def __init__(
        self,
        network: MLP,
        dataset: Dataset,
        loss: Callable[[Tensor, Tensor], Tensor],
        schedule: Schedule,
        make_probe: Callable[..., CurvatureProbe],
        momentum: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # Lightning's own loop around a step costs half a millisecond more
        self.network, self.dataset, self.loss, self.schedule = network, dataset, loss, schedule
        self.make_probe, self.momentum, self.seed = make_probe, momentum, seed
        self.limit = stability_limit(momentum)
        self.metrics: dict[str, float | Tensor] = {}
        self.divergence: Divergence | None = None
        self.kept: dict[str, Any] = {"settings": {}, "folder": ""}  # of the run, for its checkpoints
        self.complaints: set[str] = set()  # kinds of probes of which it was said that they missed their tolerance
        self.first_step = 0  # where this run begins; above 0 when it goes on from a checkpoint
        self.step = 0  # t of the weights θ_t that are being measured
        self.geometry: UpdateGeometry | None = None  # of the last update, where the schedule asks for cosines
        self.watchers: list[UpdateCosines] = []  # of callbacks, for the update of this step alone
        self._probe = make_probe(k=1)
        self._cosines: UpdateCosines | None = None
        self._cosines_state: dict[str, Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """As for any module, but for the hook's name, which Lightning writes some thirty times a step."""
        if name == "_current_fx_name":  # no parameter, module or buffer, of which torch asks
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # -- what is computed ------------------------------------------------------------------------------------------

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the network's outputs."""
        return self.network(inputs)

    def loss_of(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the given examples."""
        return self.loss(self.network(inputs), targets)

    def place_data(self) -> None:
        """Put the data where the weights are, in their dtype; nothing happens where they are there."""
        weight = self.network.weights[0]
        self.dataset = self.dataset.to(weight.device, weight.dtype)

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Loss and accuracy over the whole ``train`` or ``test`` part at the present weights."""
        return evaluated(self.network, self.loss, self.dataset, part)

    def scheduled_probe(self) -> CurvatureProbe | None:
        """Return the probe with the λ that the schedule asks for at this step; None when it asks for none."""
        if self.schedule.source != "hessian" or not self.schedule.needs_sharpness(self.step):
            return None
        self._probe.measure(self)
        return self._probe

    def _measure_for_schedule(self) -> float | None:
        """Measure what the schedule asks for at this step, and write it down; None when it asks for nothing."""
        if not self.schedule.needs_sharpness(self.step):
            return None
        if self.schedule.source == "critical":
            found = self._probe.measure_critical(self)
            # Where rounding makes the loss rise at once there is nothing to go by, as where it never rises: 0.
            value = float(self.trainer.strategy.broadcast(found.value if found.lower > 0 else 0.0))
            self.metrics |= {"critical/sharpness": value, "critical/evaluations": found.evaluations}
            return value
        pairs = self._probe.measure(self)
        value = float(self.trainer.strategy.broadcast(pairs.values[0].item()))
        self.metrics.setdefault("sharpness", value)
        complain(self, pairs)  # whether or not a callback looks at this step
        return value

    def diverge(self, reason: str) -> None:
        """End the run here as diverged, which is a result."""
        if self.divergence is None:
            self.divergence = Divergence(self.step, reason)
        self.trainer.should_stop = True

    # -- Lightning's hooks, in the order in which they run ------------------------------------------------------------

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Take on the trainer's precision before a checkpoint is read, whose weights would be rounded otherwise."""
        self.trainer.precision_plugin.convert_module(self)

    def on_fit_start(self) -> None:
        """Refuse what cannot be probed; follow the updates, if the schedule is a feedback on them."""
        self.place_data()
        self._probe.check(self)
        self.schedules_cosines()

    def schedules_cosines(self) -> UpdateCosines | None:
        """Return what follows the updates for the schedule, at every step; None where it is no feedback on them."""
        if self.schedule.needs_cosine and self._cosines is None:
            self._cosines = UpdateCosines(list(self.network.weights), self.network.rates)
            if self._cosines_state is not None:
                with restoring(self.trainer.ckpt_path, "schedule"):
                    self._cosines.load_state_dict(self._cosines_state)
        return self._cosines

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One parameter group a layer, since each has its own rate η_t·g_k."""
        return LayerwiseSGD(list(self.network.weights), self.network.rates, self.momentum)

    def train_dataloader(self) -> Batches:
        """Views of the training tensors, endless, from the step at which this run begins."""
        data = self.dataset
        with under("dataset"):
            batches = Batches(
                data.train_inputs,
                data.train_targets,
                data.train_labels,
                data.batch_size,
                self.seed,
                rank=self.trainer.global_rank,
                world_size=self.trainer.world_size,
            )
        batches.start_step = self.trainer.global_step
        return batches

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Nothing to move: the batch is a view of tensors that are there."""
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:  # noqa: ARG002
        """Ask the schedule for η_t, measuring the sharpness if it needs it; skip the step if one has blown up."""
        self.step = step = self.trainer.global_step
        try:
            sharpness = self._measure_for_schedule()
        except NonFiniteCurvature as error:
            self.diverge(str(error))
            return -1
        if sharpness is not None:
            self.schedule.tell(step, sharpness=sharpness)
        rate = self.schedule.rate(step)
        excess = cast("LayerwiseSGD", self.trainer.optimizers[0]).set_rates(rate * g for g in self.network.rates)
        if excess is not None:
            self.diverge(excess)
            return -1
        self.metrics["lr"] = rate
        if "sharpness" in self.metrics:
            self.metrics["lr_x_sharpness"] = rate * float(self.metrics["sharpness"])
        return None

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Take the step, watched by those who asked; tell the schedule its cosine, if the rule is a feedback on it."""
        optimizer = cast("LightningOptimizer", self.optimizers())
        optimizer.zero_grad()
        self.manual_backward(self._measured_loss(*batch))
        own = [] if self._cosines is None else [self._cosines]
        cast("LayerwiseSGD", optimizer.optimizer).watchers = [*self.watchers, *own]
        self.watchers = []
        optimizer.step()
        if self._cosines is not None:
            self.geometry = self._cosines.after_step()
            self.schedule.tell(self.step, cosine=self.geometry.cosines("cumulative")[0].item())

    training_step.__signature__ = signature(training_step)  # type: ignore[attr-defined] # Lightning asks at every step

    def _measured_loss(self, inputs: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        """Loss of the batch, to be differentiated; loss and accuracy are written down."""
        outputs = self.network(inputs)
        loss = self.loss(outputs, targets)
        accuracy = accuracy_of((outputs.detach().argmax(dim=1) == labels).mean(dtype=torch.float64), loss.detach())
        loss, known = over_ranks(self.trainer.strategy, self.trainer.world_size, len(inputs), loss, accuracy)
        self.metrics["train/loss"], self.metrics["train/accuracy"] = known
        return loss

    # -- checkpoints: plain numbers and tensors only, so that they load with weights_only=True ----------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the schedule, the probe's vectors, the cosines' reference and the random state."""
        checkpoint["eoc"] = {
            "schedule": self.schedule.state_dict(),
            "probe": self._probe.state_dict(),
            "cosines": self._cosines.state_dict() if self._cosines else None,
            "random": random_state(),
            **self.kept,
            "loggers": {str(logger.name): str(logger.version) for logger in self.trainer.loggers if logger.version},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take all of it back."""
        self.first_step = counted(checkpoint)
        state = checkpoint["eoc"]
        with restoring(self.trainer.ckpt_path, "schedule"):
            self.schedule.load_state_dict(state["schedule"])
        with restoring(self.trainer.ckpt_path, "curvature"):
            self._probe.load_state_dict(state["probe"])
        with restoring(self.trainer.ckpt_path, "seed"):
            restore_random_state(state["random"])
        self._cosines_state = state["cosines"]
