"""Every number of metrics.csv, against gradient descent and its measurements written out by hand in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import eoc.training.callbacks.recorder as recorder_room
import eoc.training.probe as probe_room
from eoc.data import Batches, Dataset
from eoc.dynamics.curvature import input_span
from eoc.errors import InvalidInput
from eoc.training.callbacks import CurvatureCallback, Measurement
from eoc.training.summary import table
from support import EVERY_STEP, NO_FIGURE, Run, trained

STEPS, DEPTH, TOP, PROBED = 6, 3, 3, 17
LAYERS = [f"layer_{k}" for k in range(1, DEPTH + 1)]
RATE = 6.0  # in units of 1/λ_0: it is thrown about, so that cosines have both signs
PRECISE = [
    NO_FIGURE,
    *EVERY_STEP,
    "model.width=3",
    "dataset.n_train=30",
    "dataset.n_test=20",
    f"trainer.max_steps={STEPS}",
    "trainer.precision=64-true",
    "schedule=constant",
    f"schedule.rate={RATE}",
    "seed=1",
    "curvature.tolerance=1e-9",
    "curvature.max_products=1000",
    f"callbacks.curvature.k={TOP}",
    f"callbacks.features.examples={PROBED}",
]
COSTS = {
    f"hessian/{kind}{name}" for kind in ("", "top_") for name in ("residual", "products", "milliseconds", "converged")
}


class ByHand:
    """Full-batch gradient descent in float64, and what is to be said of it, from the definitions."""

    def __init__(self, run: Run) -> None:
        network, self.data = run.module.network, run.module.dataset
        self.c, self.g = network.forward_factors, network.rates
        self.path = [[weight.double() for weight in run.path[0]]]
        self.eta = RATE / self.eigenvalues(0)[0].item()
        for _ in range(STEPS):
            weights = [weight.clone().requires_grad_() for weight in self.path[-1]]
            gradients = torch.autograd.grad(self.loss(weights, "train"), weights)
            self.path.append(
                [(w - self.eta * g * d).detach() for w, g, d in zip(weights, self.g, gradients, strict=True)]
            )

    def preactivations(self, weights: list[Tensor], x: Tensor) -> list[Tensor]:
        hs = [self.c[0] * x @ weights[0].T]
        for weight, factor in zip(weights[1:], self.c[1:], strict=True):
            hs.append(factor * hs[-1].clamp(min=0) @ weight.T)
        return hs

    def part(self, part: str) -> tuple[Tensor, Tensor, Tensor]:
        data: Dataset = self.data
        inputs, targets, labels = (getattr(data, f"{part}_{kind}") for kind in ("inputs", "targets", "labels"))
        return inputs.double(), targets.double(), labels

    def loss(self, weights: list[Tensor], part: str) -> Tensor:
        x, y, _ = self.part(part)
        return ((self.preactivations(weights, x)[-1] - y) ** 2).sum(dim=1).mean() / 2

    def eigenvalues(self, t: int) -> Tensor:
        """Of D^½·H·D^½ at θ_t, H written out in full; largest first."""
        shapes = [weight.shape for weight in self.path[t]]
        sizes = [shape.numel() for shape in shapes]

        def loss(flat: Tensor) -> Tensor:
            pieces = [piece.view(shape) for piece, shape in zip(flat.split(sizes), shapes, strict=True)]
            return self.loss(pieces, "train")

        flat = torch.cat([weight.flatten() for weight in self.path[t]])
        hessian = torch.autograd.functional.hessian(loss, flat, vectorize=True)
        root = torch.cat(
            [torch.full((size,), math.sqrt(g), dtype=torch.float64) for size, g in zip(sizes, self.g, strict=True)]
        )
        return torch.linalg.eigvalsh(root[:, None] * hessian * root).flip(0)

    def kernel(self, t: int) -> Tensor:
        """The centred Gram matrix HKH of the last hidden layer's features on the probe batch."""
        features = self.preactivations(self.path[t], self.part("train")[0][:PROBED])[-2].clamp(min=0)
        centring = torch.eye(PROBED).double() - 1 / PROBED
        return centring @ features @ features.T @ centring

    def vectors(self, first: int, second: int) -> dict[str, Tensor]:
        """θ_second − θ_first: of each layer, and of all in the learning-rate metric."""
        pieces = [(b - a).flatten() for a, b in zip(self.path[first], self.path[second], strict=True)]
        scaled = torch.cat([piece / math.sqrt(g) for piece, g in zip(pieces, self.g, strict=True)])
        return {"all": scaled, **dict(zip(LAYERS, pieces, strict=True))}

    def row(self, t: int) -> dict[str, float]:
        """Everything that is public at step t."""
        weights, row = self.path[t], {}
        for part in ("train", "test"):
            x, _, labels = self.part(part)
            hits = self.preactivations(weights, x)[-1].argmax(dim=1) == labels
            row |= {f"{part}/loss": self.loss(weights, part).item(), f"{part}/accuracy": hits.double().mean().item()}
        eigenvalues = self.eigenvalues(t)
        row["sharpness"] = eigenvalues[0].item()
        row |= {f"hessian/eig_{i + 1}": eigenvalues[i].item() for i in range(TOP)}
        now, start = (self.preactivations(self.path[s], self.part("train")[0][:PROBED]) for s in (t, 0))
        for name, h, h0 in zip(LAYERS, now, start, strict=True):
            row[f"features/preactivation_change/{name}"] = ((h - h0).norm() / h0.norm()).item()
        first, second = self.kernel(0), self.kernel(t)
        row["features/kernel_change"] = 1 - ((first * second).sum() / (first.norm() * second.norm())).item()
        travelled = self.vectors(0, t)
        row |= {f"distance/{name}": vector.norm().item() for name, vector in travelled.items()}
        if t < STEPS:
            row |= {"lr": self.eta, "lr_x_sharpness": self.eta * eigenvalues[0].item()}
            update = self.vectors(t, t + 1)
            row |= {f"update_norm/{name}": vector.norm().item() for name, vector in update.items()}
            if t > 0:
                last = self.vectors(t - 1, t)
                for name, vector in update.items():
                    row[f"cosine/cumulative/{name}"] = torch.cosine_similarity(vector, travelled[name], dim=0).item()
                    row[f"cosine/previous/{name}"] = torch.cosine_similarity(vector, last[name], dim=0).item()
        return row


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("precise"), *PRECISE)


@pytest.fixture(scope="module")
def by_hand(run: Run) -> ByHand:
    return ByHand(run)


def present(run: Run, t: int) -> dict[str, float]:
    """Row t, without the step and without what is missing."""
    columns = run.columns
    return {name: values[t] for name, values in columns.items() if name != "step" and not math.isnan(values[t])}


def test_the_weights_are_those_of_gradient_descent(run: Run, by_hand: ByHand) -> None:
    for weights, expected in zip(run.path, by_hand.path, strict=True):
        for weight, other in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("t", range(STEPS + 1))
def test_row_t_describes_the_weights_at_t(run: Run, by_hand: ByHand, t: int) -> None:
    row, expected = present(run, t), by_hand.row(t)
    assert row.keys() == expected.keys() | COSTS  # also: what is undefined is missing
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-7, abs=1e-9), name


def test_the_run_is_one_in_which_cosines_have_both_signs(by_hand: ByHand) -> None:
    rows = [by_hand.row(t) for t in range(1, STEPS)]
    for name in ("cosine/cumulative/all", "cosine/previous/all"):
        values = [row[name] for row in rows]
        assert min(values) < -0.02, name
        assert max(values) > 0.02, name


def test_the_callbacks_name_what_they_write_before_the_run(run: Run) -> None:
    callbacks = [callback for callback in run.module.trainer.callbacks if isinstance(callback, Measurement)]
    named = set().union(*(callback.names(run.module) for callback in callbacks))
    assert named <= run.columns.keys()
    assert run.columns.keys() - named == {"step", "lr", "train/loss", "train/accuracy", "test/loss", "test/accuracy"}


def test_the_distance_is_made_of_updates_and_their_cosines(run: Run) -> None:
    # ‖U_T‖² = Σ ‖Δ_t‖² + 2 Σ ⟨Δ_t, U_t⟩, from the logged numbers alone
    columns = run.columns
    for name in ("all", *LAYERS):
        steps, distances = columns[f"update_norm/{name}"][:-1], columns[f"distance/{name}"]
        cosines = columns[f"cosine/cumulative/{name}"][1:-1]
        crossed = sum(c * u * d for c, u, d in zip(cosines, steps[1:], distances[1:-1], strict=True))
        assert distances[-1] ** 2 == pytest.approx(sum(u**2 for u in steps) + 2 * crossed, rel=1e-10)


def test_the_summary_has_the_last_and_the_best_values(run: Run) -> None:
    summary, columns = run.summary, run.columns
    assert summary["final"].keys() == columns.keys() - {"step"}
    for name, value in summary["final"].items():
        assert value == next(x for x in reversed(columns[name]) if not math.isnan(x)), name
    for name, better in {"train/loss": min, "train/accuracy": max, "test/loss": min, "test/accuracy": max}.items():
        best = better(columns[name])
        assert summary["best"][name] == {"value": best, "step": columns[name].index(best)}
    assert summary["status"] == "completed"
    assert summary["diverged"] is None
    assert summary["steps"] == STEPS
    assert summary["widths"] == [64, 3, 12, 10]
    assert summary["parameters"] == 64 * 3 + 3 * 12 + 12 * 10
    assert summary["dtype"] == "float64"
    assert summary["seed"] == 1
    assert summary["stability_limit"] == 2
    assert run.value == summary["final"]["test/loss"]


def test_probes_look_once_for_the_span_of_their_examples_and_measure_in_it(tmp_path: Path) -> None:
    seen: list[Any] = []

    def counted(inputs: Tensor) -> Any:
        seen.append(input_span(inputs))
        return seen[-1]

    precise = [entry.replace("1e-9", "1e-12") for entry in PRECISE]
    with patch.object(probe_room, "input_span", counted):
        inside = trained(tmp_path / "inside", *precise)
    assert [span.inputs.shape for span in seen] == [(30, 30)]  # of 30 images, for the schedule and for the callback
    assert {len(row) for row in inside.module._probe.tracker.state_dict()["vectors"][0]} == {3 * 30 + 3 * 12 + 12 * 10}
    chunked = trained(tmp_path / "chunked", *precise, "curvature.chunk_size=30")  # one chunk too
    assert chunked.columns["sharpness"] == inside.columns["sharpness"]
    with patch.object(probe_room, "input_span", lambda _: None):
        whole = trained(tmp_path / "whole", *precise)
    for name in ("sharpness", "hessian/eig_1", f"hessian/eig_{TOP}", "train/loss"):
        assert inside.columns[name] == pytest.approx(whole.columns[name], rel=1e-9), name


def test_a_probe_says_what_it_cost_and_how_good_it_is(tmp_path: Path) -> None:
    operators: list[Any] = []

    class Counted(probe_room.PerceptronHessian):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.counted = 0
            operators.append(self)

        def __call__(self, vectors: Tensor) -> Tensor:
            self.counted += len(vectors)
            return super().__call__(vectors)

    overrides = [*PRECISE, "schedule=geometric", "curvature.tolerance=1e-3"]
    overrides.remove(f"schedule.rate={RATE}")
    with patch.object(probe_room, "PerceptronHessian", Counted):
        run = trained(tmp_path, *overrides)
    columns = run.columns
    costs = zip(columns["hessian/products"], columns["hessian/top_products"], strict=True)
    first, *counted = [operator.counted for operator in operators]
    assert first == 0  # made before the first step, to see whether it can be
    assert [cost for row in costs for cost in row] == counted
    hand = ByHand.__new__(ByHand)
    hand.data, hand.c, hand.g = run.module.dataset, run.module.network.forward_factors, run.module.network.rates
    hand.path = run.path
    for t in range(STEPS + 1):
        exact = hand.eigenvalues(t)
        error = abs(columns["sharpness"][t] - exact[0].item())
        assert error <= columns["hessian/residual"][t] * exact[0].item() <= 1.001e-3 * exact[0].item()
        found = torch.tensor([columns[f"hessian/eig_{i + 1}"][t] for i in range(TOP)])
        worst = columns["hessian/top_residual"][t] * exact[0].item()
        assert (found.double() - exact[:TOP]).abs().max().item() <= worst <= 1.001e-3 * exact[0].item()
        assert columns["hessian/converged"][t] == columns["hessian/top_converged"][t] == 1
    assert run.summary["unconverged_probes"] == 0


def test_with_bfloat16_the_sharpness_is_right_to_its_tolerance_and_disturbs_nothing(tmp_path: Path) -> None:
    words = [NO_FIGURE, "schedule=constant", "schedule.unit=absolute", "schedule.rate=0.5", "trainer.max_steps=20"]
    exact = trained(tmp_path / "exact", *words)
    coarse = trained(tmp_path / "coarse", *words, "curvature.autocast=bfloat16", "curvature.tolerance=1e-2")
    for name in ("sharpness", "hessian/eig_1"):
        known = [value for value in exact.columns[name] if not math.isnan(value)]
        found = [value for value in coarse.columns[name] if not math.isnan(value)]
        assert found == pytest.approx(known, rel=1e-2)
        assert found != known
    assert coarse.columns["train/loss"] == exact.columns["train/loss"]
    with pytest.raises(InvalidInput, match=r"curvature\.autocast=bfloat16 .* it needs trainer\.precision=32-true"):
        trained(
            tmp_path / "double",
            *words,
            *("curvature.autocast=bfloat16", "curvature.tolerance=1e-2", "trainer.precision=64-true"),
        )


def test_with_a_scout_in_bfloat16_the_sharpness_is_that_of_float32(tmp_path: Path) -> None:
    words = [NO_FIGURE, "schedule=constant", "schedule.unit=absolute", "schedule.rate=0.5", "trainer.max_steps=20"]
    scouted = ["curvature.scout=bfloat16", "curvature.tolerance=1e-2"]
    exact = trained(tmp_path / "exact", *words)
    found = trained(tmp_path / "scouted", *words, *scouted)
    assert found.columns["sharpness"] == pytest.approx(exact.columns["sharpness"], rel=1e-3)
    assert found.columns["sharpness"] != exact.columns["sharpness"]
    assert max(found.columns["hessian/residual"]) <= 1e-2
    assert found.columns["train/loss"] == exact.columns["train/loss"]
    with pytest.raises(InvalidInput, match=r"curvature\.scout=bfloat16 .* it needs trainer\.precision=32-true"):
        trained(tmp_path / "double", *words, *scouted, "trainer.precision=64-true")


def test_probes_that_ran_out_of_products_are_counted_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starved = ["curvature.guards=0", "curvature.max_products=1", "callbacks.curvature.k=1", "trainer.max_steps=3"]
    with pytest.warns(UserWarning, match=r"raise curvature\.max_products, or") as warned:
        run = trained(tmp_path, NO_FIGURE, *starved)
    columns = run.columns
    unknown = columns["hessian/converged"].count(0) + columns["hessian/top_converged"].count(0)
    assert run.summary["unconverged_probes"] == unknown > len(warned) == 2
    assert f"at {unknown} probes: hessian/converged is 0" in capsys.readouterr().out
    assert columns["hessian/residual"][0] > 1e-3


def test_a_cadence_leaves_out_rows_and_changes_no_value(tmp_path: Path) -> None:
    often = trained(tmp_path / "often", NO_FIGURE, *EVERY_STEP).columns
    cadences = {"update_cosines": 3, "curvature": 2, "features": 4, "evaluation": 5}
    overrides = [
        *(f"callbacks.{name}.every={every}" for name, every in cadences.items()),
        "callbacks.curvature.top_every=4",
    ]
    seldom = trained(tmp_path / "seldom", NO_FIGURE, "schedule=geometric", "schedule.interval=2", *overrides).columns
    again = trained(tmp_path / "again", NO_FIGURE, *EVERY_STEP, "schedule.interval=2").columns
    assert again["lr"] != often["lr"]
    groups = {"cosine": {3, 6}, "update_norm": {0, 3, 6}, "distance": {0, 3, 6, 8}, "features": {0, 4, 8}}
    groups |= {"test": {0, 5, 8}, "sharpness": {0, 2, 4, 6, 8}, "hessian/eig_1": {0, 4, 8}, "train": set(range(9))}
    for group, steps in groups.items():
        for name in (name for name in seldom if name.startswith(group)):
            assert {t for t in range(9) if not math.isnan(seldom[name][t])} == steps, name
            for t in steps:
                if group in ("sharpness", "hessian/eig_1"):  # from other start vectors
                    assert seldom[name][t] == pytest.approx(again[name][t], rel=1e-3)
                else:
                    assert seldom[name][t] == again[name][t], name


def test_bare_training_logs_loss_and_rate_and_thins_its_rows(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "callbacks=none", "schedule=constant").columns
    thin = trained(tmp_path / "thin", "callbacks=none", "schedule=constant", "trainer.log_every_n_steps=3").columns
    evaluated = {"test/loss", "test/accuracy"}  # of the final weights
    assert thin.keys() == {"step", "train/loss", "train/accuracy", "lr", "sharpness", "lr_x_sharpness"} | evaluated
    assert thin["step"] == [0, 3, 6, 8]
    for name in ("train/loss", "train/accuracy", "lr"):
        kept = [whole[name][t] for t in (0, 3, 6, 8)]
        assert thin[name] == pytest.approx(kept, rel=0, abs=0, nan_ok=True)
    assert [math.isnan(value) for value in thin["lr"]] == [False, False, False, True]
    assert [math.isnan(value) for value in thin["test/loss"]] == [True, True, True, False]


def test_thinned_rows_count_among_the_last_and_the_best_values(tmp_path: Path) -> None:
    settings = [
        "callbacks=none",
        "schedule=cosine",
        "schedule.rate=6",
        "schedule.unit=absolute",
        "dataset.batch_size=20",
    ]
    whole = trained(tmp_path / "whole", *settings)
    thin = trained(tmp_path / "thin", *settings, "trainer.log_every_n_steps=5")
    assert thin.columns["step"] == [0, 5, 8]
    for key in ("best", "final"):
        assert thin.summary[key] == whole.summary[key]


def test_the_table_says_what_was_not_measured_and_no_more_of_it(tmp_path: Path) -> None:
    settings = ["callbacks=none", "schedule=constant", "schedule.rate=0.1", "schedule.unit=absolute"]
    run = trained(tmp_path / "without", *settings)
    said = table(run.summary, run.folder).splitlines()
    assert "sharpness λ           not measured" in said
    assert "learning rate × λ     not measured (edge of stability: 2)" in said
    run = trained(tmp_path / "apart", "callbacks=none", "schedule=constant", "schedule.rate=1e20")
    ends = [f"{part}/{what}" for part in ("train", "test") for what in ("loss", "accuracy")]
    assert {name: run.summary["final"][name] for name in ends} == dict.fromkeys(ends)  # all undefined, none left out
    run = trained(tmp_path / "with", "callbacks=none", "schedule=geometric")
    said = table(run.summary, run.folder).splitlines()
    value = f"sharpness λ           {run.summary['final']['sharpness']:.4g}"
    assert f"{value} (at step 7)" in said  # θ_7 has the last update, which the schedule was asked for
    assert "learning rate × λ     2.5 (edge of stability: 2)" in said
    run = trained(tmp_path / "rare", "callbacks=none", "schedule=geometric", "schedule.interval=5")
    said = table(run.summary, run.folder).splitlines()
    assert run.summary["measured_at"] == {"sharpness": 5, "lr_x_sharpness": 5}
    assert "learning rate × λ     2.5 (at step 5; edge of stability: 2)" in said
    run = trained(tmp_path / "all", "callbacks=[curvature]", "schedule=geometric", "schedule.interval=5")
    said = table(run.summary, run.folder).splitlines()
    assert run.summary["measured_at"] == {"sharpness": 8, "lr_x_sharpness": 7}
    assert f"sharpness λ           {run.summary['final']['sharpness']:.4g}" in said


def test_a_run_that_ended_early_says_of_what_it_has_the_start_alone(tmp_path: Path) -> None:
    fast = ["schedule=constant", "schedule.unit=absolute", "schedule.rate=50", "callbacks.curvature.top_every=50"]
    summary = trained(tmp_path, *fast).summary
    assert (summary["status"], summary["steps"]) == ("diverged", 2)
    assert summary["final"]["hessian/eig_1"] is not None
    assert summary["measured_at"]["hessian/eig_1"] == 0
    assert summary["final"]["features/kernel_change"] is None  # of a dead network
    assert "features/kernel_change" not in summary["measured_at"]


@pytest.mark.filterwarnings("ignore:.*the top eigenvalues are not known")
@pytest.mark.parametrize("callbacks", ["callbacks=none", "callbacks=[curvature]"])
def test_a_loose_probe_that_steers_is_said_whoever_looks(tmp_path: Path, callbacks: str) -> None:
    loose = [callbacks, "curvature.max_products=6", "curvature.tolerance=1e-5"]
    every = "callbacks.curvature.every=4"
    with pytest.warns(UserWarning, match="step 0: λ is not known to") as warned:
        run = trained(tmp_path / "run", *loose, *([every] if "[" in callbacks else []))
    assert sum("λ is not known" in str(each.message) for each in warned) == 1
    assert run.columns["hessian/converged"][:8] == [0] * 8
    assert run.summary["unconverged_probes"] >= 8


def test_with_minibatches_the_training_loss_is_the_batchs(tmp_path: Path) -> None:
    run = trained(tmp_path, "callbacks=none", "dataset.batch_size=25", "loss=cross_entropy")
    data, network = run.module.dataset, run.module.network
    batches = Batches(data.train_inputs, data.train_targets, data.train_labels, 25, seed=0)
    for t, weights in enumerate(run.path[:-1]):
        inputs, _, labels = batches.at(t)
        h = inputs.double()
        for k, (weight, factor) in enumerate(zip(weights, network.forward_factors, strict=True)):
            h = factor * (h.clamp(min=0) if k else h) @ weight.double().T
        loss = -h.log_softmax(dim=1)[range(len(labels)), labels].mean().item()
        assert run.columns["train/loss"][t] == pytest.approx(loss, rel=1e-5)
        assert run.columns["train/accuracy"][t] == (h.argmax(dim=1) == labels).double().mean().item()


def test_the_limit_of_stability_is_momentums(tmp_path: Path) -> None:
    run = trained(tmp_path, "callbacks=none", "optimizer=momentum", "optimizer.momentum=0.7")
    assert run.summary["stability_limit"] == pytest.approx(3.4)


def test_a_probe_may_look_at_part_of_the_data_and_in_pieces(tmp_path: Path) -> None:
    words = [*PRECISE, "trainer.max_steps=1"]
    pieces = trained(tmp_path / "pieces", *words, "curvature.chunk_size=7")
    part = trained(tmp_path / "part", *words, "curvature.examples=20")
    hand = ByHand(pieces)
    assert pieces.columns["sharpness"][0] == pytest.approx(hand.eigenvalues(0)[0].item(), rel=1e-9)
    cut = {f"train_{kind}": getattr(hand.data, f"train_{kind}")[:20] for kind in ("inputs", "targets", "labels")}
    hand.data = replace(hand.data, **cut)
    assert part.columns["sharpness"][0] == pytest.approx(hand.eigenvalues(0)[0].item(), rel=1e-9)
    assert part.columns["sharpness"][0] != pytest.approx(pieces.columns["sharpness"][0], rel=1e-3)


def test_what_is_measured_at_the_first_and_the_last_weights_belongs_to_the_training(tmp_path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(recorder_room, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(CurvatureCallback, "_measure", lambda *_: clock.append(clock.pop() + 1))
    run = trained(tmp_path, NO_FIGURE, "callbacks.curvature.every=1")
    assert run.summary["training_seconds"] == run.summary["steps"] + 1


def test_the_top_eigenvalues_of_the_final_weights_are_there_whatever_the_cadence(tmp_path: Path) -> None:
    columns = trained(tmp_path, NO_FIGURE, "callbacks.curvature.top_every=3", "trainer.max_steps=8").columns
    assert [t for t in range(9) if not math.isnan(columns["hessian/eig_5"][t])] == [0, 3, 6, 8]


def test_an_evaluation_in_pieces_is_that_of_all_examples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {part: run.module.evaluate(part) for part in ("train", "test")}
    monkeypatch.setattr("eoc.training.evaluation.CHUNK", 7)  # 30 and 20 are no multiples of it
    for part, values in whole.items():
        for name, value in run.module.evaluate(part).items():
            assert float(value) == pytest.approx(float(values[name]), rel=1e-12), name


def test_the_row_at_which_a_run_diverges_is_never_thinned_away(tmp_path: Path) -> None:
    blown_up = ["callbacks=[divergence]", "schedule=constant", "schedule.rate=60", "model.activation=abs"]
    whole = trained(tmp_path / "whole", *blown_up, "trainer.max_steps=50")
    step = whole.summary["diverged"]["step"]
    every = next(each for each in (3, 4, 5) if step % each)
    thin = trained(tmp_path / "thin", *blown_up, "trainer.max_steps=50", f"trainer.log_every_n_steps={every}")
    assert step in thin.columns["step"]
    assert thin.columns["train/loss"][thin.columns["step"].index(step)] == whole.columns["train/loss"][step]
