"""Quantisers that are trained: values as the integer side has them, gradients as the publications print them."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")

from networks.qat import one_thread  # noqa: E402, F401

from intsnn.errors import FormatError  # noqa: E402
from intsnn.formats.fixed import Fixed  # noqa: E402
from intsnn.formats.weights import NAMED_LEVELS, Bipolar, Levels, apot  # noqa: E402
from intsnn.models.qat.quantisers.activations import ClipReLU, LsqReLU, least_error_clip  # noqa: E402
from intsnn.models.qat.quantisers.rounding import half_up, straight_half_up  # noqa: E402
from intsnn.models.qat.quantisers.sigmoids import LEVEL_SETS, SigmoidWeight, centres, temperature  # noqa: E402
from intsnn.models.qat.quantisers.weights import ApotWeight, MaxWeight, SymmetricWeight, nearest_level  # noqa: E402
from intsnn.network.quantised import QuantReLU  # noqa: E402


def draw(*shape, seed=0, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape))


def test_rounding_goes_half_up_and_passes_the_gradient():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, 2.4999], dtype=torch.float64, requires_grad=True)
    assert half_up(x).tolist() == [-1, 0, 1, 2, 3, 2]
    straight_half_up(x).backward(torch.arange(6.0, dtype=torch.float64))
    assert x.grad.tolist() == [0, 1, 2, 3, 4, 5]


# -- activations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", [LsqReLU, ClipReLU])
def test_activations_give_the_levels_of_the_integer_side(kind, bits):
    module = kind(0.375).double()
    module.set_bits(bits)
    step, levels = float(module.step.detach()), (1 << bits) - 1
    x = torch.linspace(-step * 1.25, step * (levels + 1), 5000, dtype=torch.float64)
    ties = (torch.arange(-2, levels + 2, dtype=torch.float64) + 0.5) * step
    x = torch.cat([x, ties])
    node = QuantReLU(name="relu", inputs=("x",), step=step, levels=levels)
    assert np.array_equal(module(x).detach().numpy(), node.apply([x.numpy()]))
    if kind is LsqReLU:  # a step of 0.375: these are exact ties
        assert np.array_equal(module(ties).detach().numpy() / step, np.clip(np.arange(-1, levels + 3), 0, levels))


@pytest.mark.parametrize("elements", ["batch", "all"])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_gradient_of_an_lsq_step_is_the_printed_one(bits, elements):
    levels, step = (1 << bits) - 1, 0.3
    module = LsqReLU(step, elements).double()
    module.set_bits(bits)
    module.scale.data.fill_(step)
    x, g = draw(6, 5, 4, scale=step * levels).requires_grad_(), draw(6, 5, 4, seed=1)
    module(x).backward(g)
    expected, total = np.zeros(x.shape), 0.0
    for at in np.ndindex(*x.shape):
        ratio = float(x.detach()[at]) / step
        clipped, inside = min(max(ratio, 0.0), float(levels)), 0 < ratio < levels
        total += float(g[at]) * (math.floor(clipped + 0.5) - clipped * inside)
        expected[at] = float(g[at]) * inside
    count = x.shape[0] if elements == "batch" else x.numel()
    assert np.array_equal(x.grad.numpy(), expected)
    assert float(module.scale.grad) == pytest.approx(total / math.sqrt(count * levels), rel=1e-12)


def test_the_gradient_of_a_clip_is_the_printed_one():
    module = ClipReLU(0.9).double()
    module.set_bits(2)
    module.scale.data.fill_(0.9)
    x, g = draw(8, 7).requires_grad_(), draw(8, 7, seed=1)
    out = module(x)
    out.backward(g)
    expected, total = np.zeros(x.shape), 0.0
    for at in np.ndindex(*x.shape):
        value, rectified = float(x[at]), max(float(x[at]), 0.0)
        total += float(g[at]) * (1.0 if value > 0.9 else (float(out[at]) - rectified) / 0.9)
        expected[at] = float(g[at]) * (0 < value <= 0.9)
    assert np.array_equal(x.grad.numpy(), expected)
    assert float(module.scale.grad) == pytest.approx(total, rel=1e-12)


def test_fewer_bits_keep_the_range():
    for module in (LsqReLU(0.5), ClipReLU(4.0)):
        module.double().set_bits(4)
        before = float(module.step.detach()) * module.levels
        module.set_bits(2)
        assert module.levels == 3 and float(module.step.detach()) * 3 == pytest.approx(before, rel=1e-6)


def test_a_clip_is_chosen_by_its_error():
    x = torch.cat([torch.linspace(-3, 1, 80001, dtype=torch.float64), torch.tensor([40.0], dtype=torch.float64)])
    assert 0.8 < float(least_error_clip(x, 15)) < 20  # not 40: one value out of 20,000
    assert float(least_error_clip(-x.abs(), 3)) == 1  # nothing to see
    with pytest.raises(FormatError, match="1 to 8"):
        LsqReLU().set_bits(9)
    with pytest.raises(FormatError, match="batch or all"):
        LsqReLU(elements="some")
    with pytest.raises(FormatError, match="set its bits"):
        _ = LsqReLU().levels


# -- weights -----------------------------------------------------------------------------------------------------------


def quantisers(bits):
    yield SymmetricWeight(6)
    yield SymmetricWeight(6, per_channel=False)
    yield MaxWeight()
    if bits <= 5:
        yield ApotWeight(2.0)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_weights_are_codes_times_scale_and_fit_their_format(bits):
    weight = draw(6, 5, 3, 3, scale=0.2)
    for module in quantisers(bits):
        module.double().set_bits(bits, weight)
        codes, scale, fmt = module.codes(weight)
        shown = codes.double() * scale.reshape(-1, 1, 1, 1)
        assert torch.allclose(module(weight), shown, rtol=1e-14, atol=0)
        assert scale.shape == (6,) and (scale > 0).all()
        assert fmt.bits == bits and int(codes.min()) >= fmt.min and int(codes.max()) <= fmt.max
        assert len(codes.unique()) > 2 or bits == 2
        if isinstance(fmt, Levels):
            fmt.codes(codes.numpy())  # RangeError where a code is no level
        else:
            assert fmt == Fixed(bits, narrow=True)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_apot_levels_are_those_of_the_integer_side(bits):
    table = np.array(NAMED_LEVELS[f"apot{bits}"], np.float64)
    assert apot(bits).table == tuple(int(v) for v in table)
    module = ApotWeight(1.0).double()
    module.set_bits(bits, torch.zeros(1))
    x = torch.linspace(-1.2, 1.2, 20001, dtype=torch.float64)
    found = torch.from_numpy(table)[nearest_level(x.clamp(-1, 1) * table[-1], torch.from_numpy(table))].numpy()
    distance = np.abs(np.clip(x.numpy(), -1, 1)[:, None] * table[-1] - table)
    assert np.array_equal(np.abs(np.clip(x.numpy(), -1, 1) * table[-1] - found), distance.min(1))
    assert set(found) == set(table)
    between = (table[1:] + table[:-1]) / 2  # of two levels as near, the larger
    assert np.array_equal(table[nearest_level(torch.from_numpy(between), torch.from_numpy(table)).numpy()], table[1:])


def test_the_gradient_of_apot_is_the_printed_one():
    module = ApotWeight(0.8).double()
    weight = draw(4, 50).requires_grad_()
    module.set_bits(3, weight)
    g = draw(4, 50, seed=3)
    module(weight).backward(g)
    w = ((weight - weight.mean()) / weight.std()).detach().numpy() / 0.8
    table = np.array(apot(3).table) / 4
    q = table[np.abs(np.clip(w, -1, 1)[..., None] - table).argmin(-1)]
    slope = np.sign(w) * (np.abs(w) > 1) + (q - w) * (np.abs(w) <= 1)
    assert float(module.alpha.grad) == pytest.approx((g.numpy() * slope).sum(), rel=1e-6)
    # the weights: as if nothing were clipped or rounded
    plain = weight.detach().clone().requires_grad_()
    (((plain - plain.mean()) / plain.std()) / float(module.alpha.detach())).backward(g * 0.8)
    assert torch.allclose(weight.grad, plain.grad, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_gradient_of_a_symmetric_scale_is_that_of_lsq(per_channel):
    weight, g = draw(3, 40).requires_grad_(), draw(3, 40, seed=2)
    module = SymmetricWeight(3, per_channel).double()
    module.set_bits(3, weight)
    scale = module.scale.detach().expand(3).numpy()[:, None]
    module(weight).backward(g)
    ratio = weight.detach().numpy() / scale
    clipped, inside = np.clip(ratio, -3, 3), np.abs(ratio) < 3
    slope = g.numpy() * (np.floor(clipped + 0.5) - clipped * inside)
    count = 40 if per_channel else 120
    expected = slope.sum(1) if per_channel else slope.sum(keepdims=True).ravel()
    assert np.allclose(module.scale.grad.numpy(), expected / math.sqrt(count * 3), rtol=1e-12)
    assert np.array_equal(weight.grad.numpy(), g.numpy() * inside)


# -- the differentiable quantisation function --------------------------------------------------------------------------


@pytest.mark.parametrize("levels", list(LEVEL_SETS))
def test_gradients_of_the_sigmoids_are_exact(levels):
    """Against finite differences of the function itself."""
    weight = draw(3, 4, scale=0.3)
    module = SigmoidWeight(levels).double()
    module.set_bits(Levels(LEVEL_SETS[levels]).bits, weight)
    module.tau = 0.5  # far from the clamp, so that the function is smooth

    def function(w, alpha, beta):
        module.alpha.data, module.beta.data = alpha, beta
        from intsnn.models.qat.quantisers.sigmoids import _Sigmoids

        return _Sigmoids.apply(w, alpha, beta, module.offsets, module._gaps(w), module.tau, False)

    arguments = [t.detach().clone().requires_grad_() for t in (weight, module.alpha, module.beta)]
    assert torch.autograd.gradcheck(function, arguments, rtol=1e-7)


@pytest.mark.parametrize("levels", list(LEVEL_SETS))
def test_sigmoids_become_the_staircase(levels):
    weight = draw(8, 40, scale=0.3)
    module = SigmoidWeight(levels).double()
    module.set_bits(Levels(LEVEL_SETS[levels]).bits, weight)
    codes, scale, fmt = module.codes(weight)
    assert set(codes.unique().tolist()) == set(LEVEL_SETS[levels])
    assert fmt == (Bipolar() if levels == "binary" else Levels(LEVEL_SETS[levels]))
    hard = module.eval()(weight)
    assert torch.equal(hard, codes.double() * scale[0])
    # the printed form, by hand
    q, o = LEVEL_SETS[levels], sum(np.diff(LEVEL_SETS[levels])) / 2
    for w, found in zip(weight.flatten().tolist(), hard.flatten().tolist(), strict=True):
        steps = sum(
            (b - a) * (float(module.beta) * w - float(c) > 0)
            for a, b, c in zip(q[:-1], q[1:], module.offsets, strict=True)
        )
        assert found == pytest.approx(float(module.alpha) * (steps - o), abs=1e-12)
    module.train()
    errors = []
    for module.tau in (5.0, 50.0, 5000.0):
        errors.append(float((module(weight) - hard).abs().mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01 * errors[0]


def test_binary_training_is_a_hyperbolic_tangent_and_a_step_at_zero_is_off():
    module = SigmoidWeight("binary").double()
    weight = draw(50, scale=0.1)
    module.set_bits(1, weight)
    module.offsets.zero_()
    module.tau = 3.0
    alpha, beta = float(module.alpha), float(module.beta)
    assert torch.allclose(module(weight), alpha * torch.tanh(3.0 * beta * weight / 2), rtol=1e-12)
    zero = torch.zeros(1, dtype=torch.float64)
    assert module.codes(zero)[0].tolist() == [-1]  # strict: step(0) = 0
    assert module.codes(zero + 1e-300)[0].tolist() == [1]


def test_the_backward_sigmoid_of_binary_weights_can_stay_at_temperature_one():
    weight = torch.tensor([0.05, -0.4, 0.2], dtype=torch.float64, requires_grad=True)
    module = SigmoidWeight("binary", soft_backward=True).double()
    module.set_bits(1, weight)
    module.offsets.zero_()
    module.tau = 40.0
    module(weight).sum().backward()
    alpha, beta = float(module.alpha), float(module.beta)
    sigma = 1 / (1 + np.exp(-beta * weight.detach().numpy()))
    assert np.allclose(weight.grad.numpy(), alpha * beta * 40 * 2 * sigma * (1 - sigma), rtol=1e-12)


def test_temperature_offsets_and_level_sets():
    assert [temperature(e) for e in (0, 1, 98, 99, 100, 500)] == [20, 40, 1980, 2000, 2000, 2000]
    clusters = torch.cat([draw(100, seed=i, scale=0.01) + c for i, c in enumerate((-3.0, 0.5, 2.0))])
    assert torch.allclose(centres(clusters, (-1, 0, 1)), torch.tensor([-3.0, 0.5, 2.0], dtype=torch.float64), atol=0.01)
    module = SigmoidWeight("ternary").double()
    module.set_bits(2, clusters)
    beta = float(module.beta)
    assert beta == pytest.approx(1.25 / float(clusters.abs().max()))
    assert module.offsets.tolist() == pytest.approx([beta * -1.25, beta * 1.25], abs=0.02)
    with pytest.raises(FormatError, match="symmetric"):
        SigmoidWeight((-2, -1, 0, 1))
    with pytest.raises(FormatError, match="no set of levels"):
        SigmoidWeight("quaternary")
    with pytest.raises(FormatError, match="codes of 2 bits, not 4"):
        SigmoidWeight("ternary").set_bits(4, clusters)
