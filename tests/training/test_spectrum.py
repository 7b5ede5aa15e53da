"""The spectrum's values against the dense Hessian, what it leaves, and that it disturbs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eoc.errors import InvalidInput
from eoc.tracking.run_folder import SPECTRUM_FIGURE, read_spectrum
from eoc.training.callbacks import SpectrumCallback
from support import NO_FIGURE, Crash, Run, crash_at, trained

ON = ["callbacks=[default,spectrum]", NO_FIGURE, "callbacks.spectrum.every=3"]
SIZES = [64 * 6, 6 * 24, 24 * 10]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("run"), *ON)


def dense(run: Run, step: int) -> Tensor:
    """D^½·H·D^½ at θ_step in float64, by differentiating the written-out network twice."""
    data, network = run.module.dataset, run.module.network
    inputs, targets = data.train_inputs.double(), data.train_targets.double()
    shapes = [weight.shape for weight in run.path[step]]

    def loss(flat: Tensor) -> Tensor:
        weights = [part.view(shape) for part, shape in zip(flat.split(SIZES), shapes, strict=True)]
        h = inputs @ weights[0].T * network.forward_factors[0]
        for weight, factor in zip(weights[1:], network.forward_factors[1:], strict=True):
            h = h.relu() @ weight.T * factor
        return 0.5 * (h - targets).square().sum() / len(inputs)

    flat = torch.cat([weight.double().flatten() for weight in run.path[step]])
    hessian = torch.autograd.functional.hessian(loss, flat)
    root = torch.cat([torch.full((n,), g**0.5) for n, g in zip(SIZES, network.rates, strict=True)]).double()
    return root[:, None] * hessian * root


@pytest.mark.parametrize("step", [0, 6])
def test_values_are_those_of_the_dense_hessian(run: Run, step: int) -> None:
    matrix, columns, spectrum = dense(run, step), run.columns, read_spectrum(run.folder)
    row = spectrum["step"].tolist().index(step)
    blocks = [torch.linalg.eigvalsh(block.split(SIZES, 1)[k])[-1] for k, block in enumerate(matrix.split(SIZES))]
    for k, top in enumerate(blocks, start=1):
        assert columns[f"hessian/layer_{k}"][step] == pytest.approx(top.item(), rel=1e-3)
        assert spectrum["layers"][row, k - 1] == columns[f"hessian/layer_{k}"][step]
    error = columns["hessian/trace_error"][step]
    assert 0 < error < 0.2 * matrix.trace()
    assert columns["hessian/trace"][step] == pytest.approx(matrix.trace().item(), abs=4 * error)
    values = torch.linalg.eigvalsh(matrix)
    nodes, weights = spectrum["nodes"][row], spectrum["weights"][row]
    assert nodes.shape == (60 * 4,)
    assert weights.sum() == pytest.approx(1)
    assert nodes[weights > 0].max() == pytest.approx(values[-1].item(), rel=1e-4)
    assert nodes[weights > 0].min() == pytest.approx(values[0].item(), rel=1e-2)
    assert (weights * nodes).sum() == pytest.approx(values.mean().item(), rel=0.25)
    share = (values > 0.1 * values[-1]).double().mean().item()
    assert weights[nodes > 0.1 * values[-1].item()].sum() == pytest.approx(share, rel=0.5)


def test_what_it_leaves(run: Run) -> None:
    spectrum = read_spectrum(run.folder)
    assert spectrum["step"].tolist() == [0, 3, 6, 8]  # and the final weights
    assert spectrum["layer_names"].tolist() == ["layer_1", "layer_2", "layer_3"]
    known = [t for t, value in enumerate(run.columns["hessian/trace"]) if not np.isnan(value)]
    assert known == [0, 3, 6, 8]
    np.testing.assert_array_equal(spectrum["trace"], [run.columns["hessian/trace"][t] for t in known])
    assert (run.folder / SPECTRUM_FIGURE).stat().st_size > 10_000


@pytest.mark.parametrize("overrides", [[], ["dataset.batch_size=13", "optimizer=momentum"]], ids=["full", "momentum"])
def test_it_disturbs_nothing(overrides: list[str], tmp_path: Path) -> None:
    watched = trained(tmp_path / "on", *ON, *overrides, "callbacks.spectrum.every=1")
    state = torch.get_rng_state()
    bare = trained(tmp_path / "off", *overrides, "callbacks=none")
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(watched.path, bare.path, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for ours, theirs in zip(watched.module.network.weights, bare.module.network.weights, strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_a_continued_run_has_the_same_spectrum(run: Run, tmp_path: Path) -> None:
    words = [*ON, "callbacks.checkpoint.every=5"]
    with pytest.raises(Crash):
        trained(tmp_path / "crashed", *words, then=crash_at(6))
    checkpoint = tmp_path / "crashed" / "checkpoints" / "last.ckpt"
    again = read_spectrum(trained(tmp_path / "again", *words, ckpt_path=checkpoint).folder)
    for name, values in read_spectrum(run.folder).items():
        np.testing.assert_array_equal(again[name], values)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    folder = trained(tmp_path, NO_FIGURE, "trainer.max_steps=1").folder
    assert not list(folder.glob("spectrum*"))


def test_on_the_examples_that_curvature_names(tmp_path: Path) -> None:
    words = [*ON, "trainer.max_steps=1"]
    extras = {"whole": "", "chunks": "curvature.chunk_size=25", "part": "curvature.examples=20"}
    traces = {
        name: trained(tmp_path / name, *words, *filter(None, [extra])).columns["hessian/trace"][0]
        for name, extra in extras.items()
    }
    assert traces["chunks"] == pytest.approx(traces["whole"], rel=1e-5)
    assert traces["part"] != pytest.approx(traces["whole"], rel=1e-2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trace_products", 5), ("density_steps", 0), ("density_runs", 0), ("every", 0), ("seed", -1)],
)
def test_bad_settings_are_named(setting: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=setting):
        SpectrumCallback("folder", lambda folder: folder, **{setting: value})
