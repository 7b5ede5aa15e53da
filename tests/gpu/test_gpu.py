"""What only a GPU can show: the same numbers, undisturbed, resumed, without waiting. Skipped where there is none."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eoc.dynamics.curvature import (
    CurvatureTracker,
    GaussNewtonOperator,
    HessianOperator,
    PerceptronHessian,
    TangentKernelOperator,
    critical_sharpness,
    input_span,
    spectral_density,
    top_eigenpairs,
    trace,
)
from eoc.model import MLP
from eoc.tracking.run_folder import CHECKPOINT, read_metrics, read_summary
from support import EVERY_STEP, NO_FIGURE, Crash, crash_at, trained

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

ROOT = Path(__file__).resolve().parents[2]
GPU, CPU = "trainer=gpu", "trainer=cpu"
# The monotone regime in double precision: what is left between two devices is rounding.
SMOOTH = ("schedule=constant", "schedule.rate=0.5", "trainer.precision=64-true", "curvature.tolerance=1e-8", NO_FIGURE)
CASES = {
    "full batch": (),
    "minibatches, momentum": ("dataset.batch_size=13", "optimizer=momentum"),
    "alignment": ("schedule=alignment",),
    "cross_entropy, interval": ("loss=cross_entropy", "schedule.interval=3"),
}


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_callbacks_disturb_nothing(overrides: tuple[str, ...], tmp_path: Path) -> None:
    watched = trained(tmp_path / "all", GPU, *overrides, *EVERY_STEP, NO_FIGURE)
    bare = trained(tmp_path / "none", GPU, *overrides, "callbacks=none")
    assert len(watched.path) == len(bare.path) == 9
    assert bare.path[0][0].is_cuda
    for one, other in zip(watched.path, bare.path, strict=True):
        assert_same(one, other)
    assert not torch.equal(bare.path[0][0], bare.path[-1][0])


@pytest.mark.parametrize("batch_size", ["null", "13"])
def test_both_devices_give_the_same_numbers(batch_size: str, tmp_path: Path) -> None:
    settings = (
        *SMOOTH,
        *EVERY_STEP,
        f"dataset.batch_size={batch_size}",
        "callbacks=[default,tangent_kernel,layer_steps]",
    )
    here, there = trained(tmp_path / "here", CPU, *settings), trained(tmp_path / "there", GPU, *settings)
    assert_same(here.path[0], [weight.cpu() for weight in there.path[0]])
    assert here.columns.keys() == there.columns.keys()
    for name, values in here.columns.items():
        if not name.endswith(("milliseconds", "products", "residual")):
            assert there.columns[name] == pytest.approx(values, rel=1e-7, abs=1e-10, nan_ok=True), name


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_a_run_that_was_cut_goes_on_as_if_it_had_not(overrides: tuple[str, ...], tmp_path: Path) -> None:
    settings = (GPU, NO_FIGURE, *overrides, "callbacks.checkpoint.every=3")
    whole = trained(tmp_path / "whole", *settings)
    with pytest.raises(Crash):
        trained(tmp_path / "cut", *settings, then=crash_at(4))
    run = trained(tmp_path / "cut", *settings, ckpt_path=tmp_path / "cut" / CHECKPOINT)
    assert run.module.first_step == 3
    assert_same(run.path[-1], whole.path[-1])
    for name, values in whole.columns.items():
        if not name.endswith("milliseconds"):
            assert run.columns[name] == pytest.approx(values, rel=0, abs=0, nan_ok=True), name


@pytest.mark.parametrize(("first", "second"), [(GPU, CPU), (CPU, GPU)])
def test_a_run_goes_on_on_another_device(first: str, second: str, tmp_path: Path) -> None:
    settings = (*SMOOTH, "callbacks.checkpoint.every=3")
    whole = trained(tmp_path / "whole", first, *settings)
    with pytest.raises(Crash):
        trained(tmp_path / "cut", first, *settings, then=crash_at(4))
    run = trained(tmp_path / "cut", second, *settings, ckpt_path=tmp_path / "cut" / CHECKPOINT)
    for one, other in zip(run.path[-1], whole.path[-1], strict=True):
        assert torch.allclose(one.cpu(), other.cpu(), rtol=1e-9, atol=1e-12)
    for name in ("train/loss", "sharpness", "cosine/cumulative/all", "cosine/previous/all"):
        assert run.columns[name] == pytest.approx(whole.columns[name], rel=1e-7, nan_ok=True), name


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_step_without_callbacks_does_not_wait_for_the_device(tmp_path: Path) -> None:
    def then(module: object, step: int) -> None:  # noqa: ARG001
        torch.cuda.set_sync_debug_mode("error" if 2 <= step < 6 else "default")

    quiet = ("schedule=constant", "schedule.unit=absolute", "schedule.rate=0.1", "trainer.log_every_n_steps=100")
    try:
        run = trained(tmp_path, GPU, *quiet, "callbacks=none", then=then)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.summary["status"] == "completed"


def test_a_single_gpu_trains_under_ddp_as_without(tmp_path: Path) -> None:
    folder = tmp_path / "ddp"
    settings = [*SMOOTH, "dataset.n_train=60", "dataset.n_test=40", "model.width=6", "trainer.max_steps=5"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *settings, "trainer=ddp", "logger=csv", f"hydra.run.dir={folder}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    alone = trained(tmp_path / "alone", GPU, *settings, small=False)
    assert read_summary(folder)["status"] == "completed"
    found = read_metrics(folder)
    for name in ("train/loss", "sharpness", "cosine/cumulative/all"):
        assert found[name] == pytest.approx(alone.columns[name], rel=1e-9, nan_ok=True), name


class Problem:
    """A small network's loss on a device, in a precision."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float64) -> None:
        self.network = MLP(12, 4, parameterization="nup", depth=4, width=8, growth=1, seed=3).to(device, dtype)
        generator = torch.Generator().manual_seed(0)
        inputs, labels = torch.randn(50, 12, generator=generator), torch.randint(4, (50,), generator=generator)
        inputs[:, 10:] = inputs[:, :2]  # they span ten dimensions
        self.batches = [(inputs.to(device, dtype), torch.eye(4)[labels].to(device, dtype))]
        self.weights = list(self.network.weights)

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - targets).square().sum() / len(outputs)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(self.network(inputs), targets)

    def hessian(self, **options: object) -> HessianOperator:
        return HessianOperator(self.loss, self.weights, self.batches, self.network.rates, **options)

    def written_out(self, **options: object) -> PerceptronHessian:
        return PerceptronHessian(self.network, self.criterion, self.batches, self.network.rates, **options)

    def operators(self) -> dict[str, object]:
        ragged = [tuple(t[part] for t in self.batches[0]) for part in (slice(0, 20), slice(20, 50))]
        newton = GaussNewtonOperator(self.network, self.criterion, self.weights, ragged, self.network.rates)
        kernel = TangentKernelOperator(self.network, self.weights, self.batches, self.network.rates)
        chunked = HessianOperator(self.loss, self.weights, ragged, self.network.rates)
        hessians = {"Hessian": self.hessian(), "in chunks": chunked, "written out": self.written_out()}
        hessians["in the span"] = self.written_out(span=input_span(self.batches[0][0]))
        return {**hessians, "Gauss-Newton": newton, "tangent kernel": kernel}


def test_operators_solvers_and_estimates_agree_with_those_on_the_cpu() -> None:
    here, there = Problem("cpu"), Problem("cuda")
    for (name, one), other in zip(here.operators().items(), there.operators().values(), strict=True):
        rows = torch.randn(3, one.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert torch.allclose(one(rows), other(rows.cuda()).cpu(), rtol=1e-10, atol=1e-12), name
        ours, theirs = (top_eigenpairs(op, 3, tolerance=1e-9) for op in (one, other))
        assert (theirs.vectors.is_cuda, ours.converged, theirs.converged) == (True, True, True)
        assert theirs.values.tolist() == pytest.approx(ours.values.tolist(), rel=1e-9), name
    assert trace(there.hessian()).value == pytest.approx(trace(here.hessian()).value, rel=1e-8)
    moments = [spectral_density(p.hessian(), steps=10).moment(2) for p in (here, there)]
    assert moments[1] == pytest.approx(moments[0], rel=1e-8)
    found = []
    for p in (here, there):
        slopes = torch.autograd.grad(p.loss(*p.batches[0]), p.weights)
        direction = [g * slope for g, slope in zip(p.network.rates, slopes, strict=True)]
        found.append(critical_sharpness(p.loss, p.weights, direction, p.batches, 1.0).value)
    assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_lower_precision_searches_and_full_precision_judges() -> None:
    exact = float(top_eigenpairs(Problem("cpu").hessian(), tolerance=1e-9).values[0])
    single = Problem("cuda", torch.float32)
    coarse, scouted = CurvatureTracker(tolerance=1e-2), CurvatureTracker(tolerance=1e-2, guards=2)
    for make in (single.hessian, single.written_out, single.hessian, single.written_out):
        rough = float(coarse.probe(make(autocast=torch.bfloat16)).values[0])
        fine = scouted.probe(make(), make(autocast=torch.bfloat16))
    assert rough == pytest.approx(exact, rel=2e-2)
    assert not math.isclose(rough, exact, rel_tol=1e-7)
    assert float(fine.values[0]) == pytest.approx(exact, rel=1e-3)


def test_tf32_stays_off() -> None:
    # Three decimal digits in matrix products would show in every sharpness.
    a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))
    error = (a.cuda().float() @ b.cuda().float()).cpu().double() - a.float().double() @ b.float().double()
    assert float(error.abs().max()) < 1e-4
