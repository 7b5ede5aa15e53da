"""Gradient descent that can be watched layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from eoc.dynamics.update_cosines import UpdateCosines


class LayerwiseSGD(torch.optim.SGD):
    """`torch.optim.SGD`, one parameter group a layer, stepping one layer after the other, bit for bit as that steps.

    Whoever watches needs a copy of one layer, not of the network. Of torch's class it has the state and its place in
    checkpoints; the step is written out, since torch spends more on its options than on a small layer. Its step hooks
    are not called.

    Args:
        weights: the layers' weights.
        rates: the learning rate of each.
        momentum: β of heavy-ball gradient descent, 0 for plain.

    Attributes:
        watchers: who measures the next step's update; the caller sets it anew for every step.
    """

    def __init__(self, weights: Sequence[Tensor], rates: Sequence[float], momentum: float) -> None:
        groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, rates, strict=True)]
        super().__init__(groups, momentum=momentum)
        self.watchers: Sequence[UpdateCosines] = ()

    def set_rates(self, rates: Iterable[float]) -> str | None:
        """Give each layer its rate; say so if one leaves the weights' dtype, in which no step can be taken with it.

        Args:
            rates: η·g_k of each layer.
        """
        for group, rate in zip(self.param_groups, rates, strict=True):
            dtype = group["params"][0].dtype
            if not abs(rate) <= torch.finfo(dtype).max:
                return f"the learning rate {rate:.3g} leaves {str(dtype).removeprefix('torch.')}"
            group["lr"] = rate
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002
        """Forget the gradients; without the profiler's marks, which cost more than that."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the buffers back; β is that of this run, whatever it was.

        Raises:
            ValueError: if there is none for a weight that had one, it does not fit it, or it is not finite.
        """
        shapes = [weight.shape for group in self.param_groups for weight in group["params"]]
        if any(group["momentum"] for group in state_dict["param_groups"]):
            buffers = [state_dict["state"].get(index, {}).get("momentum_buffer") for index in range(len(shapes))]
            for buffer, shape in zip(buffers, shapes, strict=True):
                if buffer is None or buffer.shape != shape or not buffer.isfinite().all():
                    raise ValueError("momentum_buffer")
        own = [group["momentum"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, momentum in zip(self.param_groups, own, strict=True):
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; ``closure`` computes the gradients first."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for layer, group in enumerate(self.param_groups):
            for watcher in self.watchers:
                watcher.before_layer(layer)
            self._descend(group)
            for watcher in self.watchers:
                watcher.after_layer(layer)
        return result

    step.hooked = True  # type: ignore[attr-defined] # torch puts no profiler's mark around it

    def _descend(self, group: dict[str, Any]) -> None:
        """V ← β·V + G, A ← A − η·g_k·V."""
        (weight,) = group["params"]
        step = weight.grad
        if step is None:
            return
        if group["momentum"]:
            state = self.state[weight]
            velocity = state.get("momentum_buffer")
            if velocity is None:
                velocity = state["momentum_buffer"] = step.clone()
            else:
                velocity.mul_(group["momentum"]).add_(step)
            step = velocity
        weight.add_(step, alpha=-group["lr"])
