"""What every consumer gets (`Dataset`) and how a request for one is checked and met (`Selection`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eoc.data.preprocessing import TARGETS, encode, normalize
from eoc.data.subsets import LARGEST_SEED, stratified
from eoc.errors import InvalidInput, RunFailure, choice, integer, optional


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples as tensors in memory.

    Args:
        name: ``digits``, ``mnist``, ``cifar10`` or ``images``.
        train_inputs: x with ‖x‖² = dim, dimensionless.
        train_targets: coded classes.
        train_labels: class indices, from 0.
        test_inputs: as ``train_inputs``, centred with the training mean.
        test_targets: as ``train_targets``.
        test_labels: as ``train_labels``.
        batch_size: examples in a training step; None is the full batch.
    """

    name: str
    train_inputs: Float[Tensor, "n_train dim"]
    train_targets: Float[Tensor, "n_train classes"]
    train_labels: Int[Tensor, " n_train"]
    test_inputs: Float[Tensor, "n_test dim"]
    test_targets: Float[Tensor, "n_test classes"]
    test_labels: Int[Tensor, " n_test"]
    batch_size: int | None = None

    @property
    def classes(self) -> int:
        """The number of classes, which is the number of outputs."""
        return self.train_targets.shape[1]

    @property
    def dim(self) -> int:
        """The number of features of an input (m_0)."""
        return self.train_inputs.shape[1]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Dataset:
        """Return the same data on ``device``, with inputs and targets in ``dtype`` (None: as they are)."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return replace(self, **moved)


@dataclass(frozen=True)
class Part:
    """The training or the test part of a source, before anything is chosen from it.

    Args:
        labels: class indices of all its examples, from 0.
        pixels: a function from positions to their pixels, one flat row each: only what is chosen is decoded.
    """

    labels: Int[Tensor, " n"]
    pixels: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Selection:
    """What a user asks of a data set; checked as far as possible before any file is touched.

    Args:
        n_train: training examples, from the number of classes to all there are; None takes all.
        n_test: test examples, from 1 to all there are; None takes all.
        subset_seed: seed of the stratified choice, at least 0.
        target: a key of `TARGETS`.
        batch_size: examples in a step, from 1 to ``n_train``; None is the full batch.

    Raises:
        InvalidInput: if one of them is outside its range.
    """

    n_train: int | None
    n_test: int | None
    subset_seed: int
    target: str
    batch_size: int | None

    def __post_init__(self) -> None:
        for key in ("n_train", "n_test", "batch_size"):
            optional(integer, key, getattr(self, key), 1)
        integer("subset_seed", self.subset_seed, 0, LARGEST_SEED)
        choice("target", self.target, TARGETS)

    def fits(self, name: str, classes: int, there: int, held_out: int) -> None:
        """Refuse what ``there`` training and ``held_out`` test examples cannot give.

        Raises:
            InvalidInput: if more is asked than there is, or fewer training examples than classes.
        """
        reason = f"{name} has {there} training examples of {classes} classes"
        within("n_train", self.n_train, classes, there, reason, "all")
        within("n_test", self.n_test, 1, held_out, f"{name} has {held_out} test examples", "all")
        n_train = there if self.n_train is None else self.n_train
        within("batch_size", self.batch_size, 1, n_train, f"n_train is {n_train}", "the full batch")

    def of(self, name: str, classes: int, train: Part, test: Part) -> Dataset:
        """Choose, read, normalize and code the examples of ``train`` and ``test``.

        Raises:
            InvalidInput: if more is asked than there is, or fewer training examples than classes.
            RunFailure: if all training examples are alike.
        """
        self.fits(name, classes, len(train.labels), len(test.labels))
        chosen = [
            (part, stratified(part.labels, count, self.subset_seed))
            for part, count in ((train, self.n_train), (test, self.n_test))
        ]
        train_inputs, test_inputs = normalize(*(part.pixels(positions) for part, positions in chosen))
        if not train_inputs.any():
            raise RunFailure(f"All training examples of {name} are alike: check the files in dataset.root.")
        train_labels, test_labels = (part.labels[positions].long() for part, positions in chosen)
        return Dataset(
            name=name,
            train_inputs=train_inputs,
            train_targets=encode(train_labels, classes, self.target),
            train_labels=train_labels,
            test_inputs=test_inputs,
            test_targets=encode(test_labels, classes, self.target),
            test_labels=test_labels,
            batch_size=self.batch_size,
        )


def within(key: str, value: int | None, low: int, high: int, reason: str, null: str, remedy: str = "") -> None:
    """Refuse a number outside [low, high], saying why and what None (``null``) would mean."""
    if value is not None and not low <= value <= high:
        rule = f"{reason}, so it must be an integer from {low} to {high}, or null for {null}{remedy}"
        raise InvalidInput(key, value, rule)
