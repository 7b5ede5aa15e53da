"""The callbacks that check a theory: what they log is what their definitions say, and they disturb nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import ArpackNoConvergence

from eoc.dynamics.curvature import HessianOperator, NonFiniteCurvature
from eoc.dynamics.layer_steps import layer_steps
from eoc.dynamics.tangent_kernel import kernel_deviation, tangent_kernel
from eoc.training.callbacks import ReferenceSharpnessCallback
from eoc.training.callbacks.reference_sharpness import independent_sharpness
from eoc.training.module import EdgeOfChaosModule
from support import NO_FIGURE, trained

CHECKS = "callbacks=[layer_steps,tangent_kernel,reference_sharpness,curvature]"
EVERY = [f"callbacks.{name}.every=1" for name in ("tangent_kernel", "reference_sharpness")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("checked"), CHECKS, *EVERY, "callbacks.layer_steps.examples=20")


def test_they_disturb_nothing(run, tmp_path):
    bare = trained(tmp_path, "callbacks=none")
    for one, other in zip(run.path, bare.path, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_layer_steps_are_those_of_the_weights(run):
    inputs = run.module.dataset.train_inputs[:20]
    columns = run.columns
    for t in (0, 5):
        step = layer_steps(run.module.network, inputs, run.path[t], run.path[t + 1])
        for k in range(3):
            logged = columns[f"layer_step/preactivations/layer_{k + 1}"][t]
            assert logged == pytest.approx(step.preactivations[k].item(), rel=1e-9)
            assert columns[f"layer_step/output_share/layer_{k + 1}"][t] == pytest.approx(step.shares[k].item())
        assert columns["layer_step/output"][t] == pytest.approx(step.output.item())
        outputs = run.module.network.preactivations(inputs, run.path[t])[-1]
        residual = (outputs - run.module.dataset.train_targets[:20]).mean(0).square().mean().sqrt()
        assert columns["layer_step/mean_residual"][t] == pytest.approx(residual.item(), rel=1e-5)
    assert math.isnan(columns["layer_step/output"][-1])  # the final weights have no update


def test_the_kernel_is_that_of_the_weights(run):
    network, inputs = run.module.network, run.module.dataset.train_inputs[:32]
    kernel = tangent_kernel(network, inputs)
    assert run.columns["kernel/mean"][-1] == pytest.approx(kernel.diagonal().mean().item())
    assert run.columns["kernel/deviation"][-1] == pytest.approx(kernel_deviation(kernel, network, inputs).item())


def test_an_independent_solver_finds_the_same_sharpness(run):
    columns = run.columns
    assert len(columns["step"]) == 9
    for ours, reference in zip(columns["sharpness"], columns["reference/sharpness"], strict=True):
        assert ours == pytest.approx(reference, rel=1e-3)
    assert columns["reference/lr_x_sharpness"][:-1] == pytest.approx([2.5] * 8, rel=1e-3)
    assert columns["reference/kinks"] == [0] * 9


def test_the_reference_looks_at_the_examples_of_the_probe_and_keeps_float64(tmp_path: Path):
    precise = ["trainer.precision=64-true", "curvature.tolerance=1e-9", "callbacks.reference_sharpness.tolerance=1e-12"]
    part = ["callbacks=[curvature,reference_sharpness]", "callbacks.reference_sharpness.every=1"]
    found = trained(tmp_path, *part, *precise, "curvature.examples=17", "curvature.chunk_size=7").columns
    assert found["sharpness"] == pytest.approx(found["reference/sharpness"], rel=1e-12)


@pytest.fixture
def module(run) -> Iterator[EdgeOfChaosModule]:
    """The trained module with nothing measured, whose weights a test may change."""
    kept = [weight.detach().clone() for weight in run.module.network.weights]
    run.module.metrics.clear()
    yield run.module
    with torch.no_grad():
        for weight, before in zip(run.module.network.weights, kept, strict=True):
            weight.copy_(before)


def test_weights_on_a_kink_are_counted(module):
    inputs, first = module.dataset.train_inputs, module.network.weights[0]
    with torch.no_grad():
        drawn = first.clone()
        for x in inputs:  # until the precisions disagree, which is a matter of the processor's rounding
            example = x / x.norm()
            first.copy_(drawn - torch.outer(drawn @ example, example))  # its preactivations are 0 but for rounding
            single = module.network.preactivations(inputs)[0] > 0
            expected = int((single != (inputs.double() @ first.double().T > 0)).sum())
            if expected:
                break
    ReferenceSharpnessCallback().at_end(module)
    assert module.metrics["reference/kinks"] >= expected > 0


def test_a_network_that_blew_up_has_no_reference(tmp_path: Path):
    rate = ["schedule=constant", "schedule.unit=absolute", "schedule.rate=1e30"]
    blown = trained(tmp_path, *rate, "callbacks=[reference_sharpness,divergence]", EVERY[1])
    assert blown.summary["status"] == "diverged"
    assert math.isfinite(blown.columns["reference/sharpness"][0])


def test_a_dead_network_has_the_reference_0(module):
    with torch.no_grad():
        for weight in module.network.weights:
            weight.zero_()
    ReferenceSharpnessCallback().at_end(module)
    assert module.metrics["reference/sharpness"] == 0


def test_a_reference_is_not_bound_to_what_float32_can_hold(module):
    with torch.no_grad():
        for weight in module.network.weights:
            weight.fill_(torch.finfo(torch.float32).max)
    ReferenceSharpnessCallback().at_end(module)
    assert torch.finfo(torch.float32).max < module.metrics["reference/sharpness"] < math.inf


def test_a_reference_whose_products_overflow_is_missing(module, monkeypatch: pytest.MonkeyPatch):
    def overflows(*_, **__):
        raise NonFiniteCurvature

    monkeypatch.setattr("eoc.training.callbacks.reference_sharpness.independent_sharpness", overflows)
    ReferenceSharpnessCallback().at_end(module)
    assert "reference/sharpness" not in module.metrics


def test_what_arpack_cannot_find_is_missing(monkeypatch: pytest.MonkeyPatch):
    def gives_up(*_, **__):
        raise ArpackNoConvergence("no", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr("eoc.training.callbacks.reference_sharpness.eigsh", gives_up)
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(1, 1)
    operator = HessianOperator(lambda *_: theta.square().sum(), [theta], [(zeros, zeros)])
    assert math.isnan(independent_sharpness(operator))


def test_they_can_be_added_to_the_default(tmp_path: Path):
    added = trained(tmp_path, "callbacks=[default,layer_steps]", NO_FIGURE, "trainer.max_steps=2")
    assert {"layer_step/output", "cosine/cumulative/all"} <= set(added.columns)
