from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, jacrev

from eoc.data import digits
from eoc.data.preprocessing import normalize
from eoc.dynamics.tangent_kernel import infinite_tangent_kernel, kernel_deviation, tangent_kernel
from eoc.errors import InvalidInput
from eoc.model import MLP, PARAMETERIZATIONS
from layerwise import sphere


def net(parameterization: str = "ntp", **settings) -> MLP:
    return MLP(6, 3, parameterization=parameterization, **{"depth": 4, "width": 5, "growth": 1.0, "seed": 2} | settings)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_against_the_jacobian_in_the_weights(parameterization):
    network, inputs = net(parameterization).double(), sphere(4, 6)
    jacobians = jacrev(lambda p: functional_call(network, p, (inputs,)).flatten())(dict(network.named_parameters()))
    parts = [j.flatten(1) @ j.flatten(1).T for j in jacobians.values()]
    expected = sum(rate * part for rate, part in zip(network.rates, parts, strict=True))
    torch.testing.assert_close(tangent_kernel(network, inputs), expected.detach(), rtol=1e-10, atol=1e-12)
    assert all(weight.grad is None for weight in network.weights)


def test_a_linear_network_of_infinite_width_in_closed_form():
    # φ(s) = s: ρ_k = ⟨x, x'⟩/m_0 in every layer and ρ' = 1, so that K^∞ = l·⟨x, x'⟩/m_0.
    inputs = sphere(5, 6)
    for depth in (2, 3, 6):
        kernel = infinite_tangent_kernel(net(depth=depth, activation=[1.0, 0.0]), inputs)
        torch.testing.assert_close(kernel, depth * inputs @ inputs.T / 6)


def test_two_relu_layers_in_closed_form():
    # f = c·B·relu(Ax): readout part arc-cosine kernel of degree 1, input part ⟨x, x'⟩/m_0 times that of degree 0.
    inputs = sphere(5, 6)
    rho = (inputs @ inputs.T / 6).clamp(-1, 1)
    angle = torch.acos(rho)
    first = (angle.sin() + (math.pi - angle) * rho) / math.pi
    zeroth = (math.pi - angle) / math.pi
    torch.testing.assert_close(
        infinite_tangent_kernel(net(depth=2), inputs), first + rho * zeroth, rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("activation", ["relu", "abs", "leaky_relu", [0.3, 0.9]])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_wide_networks_come_close(parameterization, activation):
    inputs = sphere(4, 6)

    def deviation(width: int) -> float:
        settings = {"width": width, "growth": 0.0, "activation": activation}
        networks = [net(parameterization, seed=seed, **settings) for seed in range(3)]
        return sum(kernel_deviation(tangent_kernel(each, inputs), each, inputs).item() for each in networks) / 3

    narrow, wide = deviation(64), deviation(1024)
    assert wide < 0.12
    assert wide < 0.5 * narrow  # 1/√width would be a quarter


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_a_readout_that_starts_at_zero_leaves_its_own_part_of_the_limit(parameterization):
    inputs = sphere(4, 6)

    def deviation(width: int) -> float:
        network = net(parameterization, width=width, growth=0.0, readout_init="zero")
        return kernel_deviation(tangent_kernel(network, inputs), network, inputs).item()

    assert deviation(4096) < min(0.1, 0.4 * deviation(64))


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_deviation_is_relative_to_the_limit(scale):
    network, inputs = net("nup"), sphere(4, 6)
    limit = torch.kron(infinite_tangent_kernel(network, inputs), torch.eye(3, dtype=torch.float64))
    assert kernel_deviation(scale * limit, network, inputs).item() == pytest.approx(abs(scale - 1))


def test_the_kernel_is_there_where_gradients_are_off():
    network, inputs = net(), sphere(4, 6).float()
    with torch.no_grad():
        kernel = tangent_kernel(network, inputs)
    assert torch.equal(kernel, tangent_kernel(network, inputs))
    assert not kernel.requires_grad


@pytest.mark.parametrize("richness", [0.3, 3.0])
def test_richness_leaves_the_limit(richness):
    inputs = sphere(4, 6)
    plain, rich = (infinite_tangent_kernel(net("nup", richness=r), inputs) for r in (1.0, richness))
    torch.testing.assert_close(rich, plain)
    # νP: each of the l parts weighs 1/(l−1); the kernel's diagonal is l/(l−1)
    torch.testing.assert_close(plain.diagonal(), torch.full((4,), 4 / 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [(0.5, 0.5, (8.7, 20, 45, 95)), (0.0, 1.0, (23, 51, 103, 159))],
)
def test_in_a_batch_later_layers_move_outputs_together_and_first_ones_hardly_do(a, b, apart):
    inputs = digits(n_train=200).train_inputs.double()
    gain = 1 / (a**2 + b**2)  # squared
    parts, rho = [], (inputs @ inputs.T / inputs.shape[1]).clamp(-1, 1)
    for depth in range(1, 18):
        parts.append(rho)
        if depth in (3, 5, 9, 17):
            network = MLP(64, 10, parameterization="ntp", depth=depth, width=4, growth=0.0, activation=[a, b])
            whole = infinite_tangent_kernel(network, inputs)
            torch.testing.assert_close(sum(parts), whole, rtol=1e-6, atol=1e-6)  # √(1 − ρ²) near ρ = 1
            tops = [float(torch.linalg.eigvalsh(part)[-1]) for part in parts]
            assert max(tops) / min(tops) == pytest.approx(apart[(3, 5, 9, 17).index(depth)], rel=0.02)
            assert 1 <= sum(tops) / float(torch.linalg.eigvalsh(whole)[-1]) < 1.045
        asin = rho.asin()
        parts = [part * gain * (a**2 + b**2 * 2 / math.pi * asin) for part in parts]
        rho = gain * (a**2 * rho + b**2 * 2 / math.pi * ((1 - rho**2).clamp_min(0).sqrt() + rho * asin))
        rho = rho.clamp(-1, 1)


def test_a_deep_limit_whose_correlations_round_beyond_one_is_finite():
    inputs = sphere(5, 6)
    assert infinite_tangent_kernel(net(depth=8, activation=[0.3, 0.7]), inputs).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inputs_are_left_alone(dtype):
    network, inputs = net().to(dtype), sphere(4, 6).to(dtype)
    kept = inputs.clone()
    kernel = tangent_kernel(network, inputs)
    assert not inputs.requires_grad
    assert torch.equal(inputs, kept)
    inputs.numpy()  # which refuses a tensor that requires gradients
    assert not kernel.requires_grad
    followed = inputs.clone().requires_grad_()
    assert torch.equal(tangent_kernel(network, followed), kernel)
    assert followed.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_gradients_it_is_the_same(dtype):
    inputs = sphere(4, 6).to(dtype)
    kernel = tangent_kernel(net().to(dtype), inputs)
    with torch.no_grad():
        assert torch.equal(tangent_kernel(net().to(dtype), inputs), kernel)
    with torch.inference_mode():
        network, made_there = net().to(dtype), sphere(4, 6).to(dtype)
        assert made_there.is_inference()
        found = tangent_kernel(network, made_there)
        deviation = kernel_deviation(found, network, made_there)
    assert torch.equal(found, kernel)
    assert torch.equal(tangent_kernel(network, made_there), kernel)
    assert deviation.item() == kernel_deviation(kernel, net().to(dtype), inputs).item()


@pytest.mark.parametrize("square", [2.0, 0.99, 1.002, 1e-12, math.nan])
def test_the_limit_is_that_of_inputs_on_the_sphere(square):
    inputs = sphere(4, 6)
    inputs[2] *= math.sqrt(square)
    complaint = rf"^inputs=‖x‖² = {square:.4g}·m_0 is not possible: .* with ‖x‖² = m_0, which is 6, or x = 0; scale"
    for asked in (infinite_tangent_kernel, lambda *given: kernel_deviation(torch.eye(12).double(), *given)):
        with pytest.raises(InvalidInput, match=complaint):
            asked(net(), inputs)


def test_rounding_leaves_inputs_on_the_sphere():
    inputs = sphere(4, 6)
    kernel = infinite_tangent_kernel(net(), inputs)
    torch.testing.assert_close(infinite_tangent_kernel(net(), inputs * 1.0004), kernel, rtol=2e-2, atol=1e-3)
    data = digits()
    ntp = MLP(64, 10, parameterization="ntp", depth=3, width=4, growth=0.0)
    for images in (data.train_inputs, data.test_inputs.half()):
        kernel = infinite_tangent_kernel(ntp, images)
        torch.testing.assert_close(kernel.diagonal(), torch.full_like(kernel[0], 3.0), rtol=0.03, atol=0.0)


@pytest.mark.parametrize("readout_init", ["normal", "zero"])
def test_an_input_of_zero_has_no_kernel(readout_init):
    # An example that is the mean of all stays zero in preprocessing. Its h_k and with them its gradients are zero.
    inputs = sphere(4, 6)
    inputs[1] = 0.0
    network = net(width=2048, growth=0.0, readout_init=readout_init)
    others = torch.tensor([0, 2, 3])
    limit = infinite_tangent_kernel(network, inputs)
    assert not limit[1].any()
    assert not limit[:, 1].any()
    torch.testing.assert_close(limit[others][:, others], infinite_tangent_kernel(network, inputs[others]))
    kernel = tangent_kernel(network, inputs)
    assert not kernel[3:6].any()
    assert kernel_deviation(kernel, network, inputs).item() < 0.12


@pytest.mark.parametrize("dim", [784, 3072])  # MNIST, CIFAR-10
def test_what_preprocessing_makes_is_allowed(dim):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randint(0, 128, (dim,), generator=generator)
    apart = torch.randint(0, 128, (20, dim), generator=generator)
    train, test = normalize(torch.cat([mean + apart, mean - apart, mean[None]]), 2 * apart)
    network = MLP(dim, 2, parameterization="nup", depth=3, width=4, growth=0.0)
    limit = infinite_tangent_kernel(network, train)
    assert limit.diagonal().tolist() == pytest.approx([1.5] * 40 + [0.0], rel=0.01)  # l/(l − 1)
    assert infinite_tangent_kernel(network, test).diagonal().tolist() == pytest.approx([1.5] * 20, rel=0.01)
