"""Layer-wise fine-tuning: targets of the untouched ANN, spikes of the integer network, kept only if it pays."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")

from networks.qat import joined, made, one_thread, tiny  # noqa: E402, F401

from intsnn.conversion.spikes import NeuronRule, convert  # noqa: E402
from intsnn.datasets.catalogue import load  # noqa: E402
from intsnn.engine.simulation import simulate  # noqa: E402
from intsnn.errors import ConversionError, FormatError  # noqa: E402
from intsnn.models.qat import tuning  # noqa: E402
from intsnn.models.qat.bridge import quantised  # noqa: E402
from intsnn.models.qat.recipes import Recipe, Stage  # noqa: E402
from intsnn.models.qat.training import train  # noqa: E402
from intsnn.models.qat.tuning import Tuning, layers_to_tune, tune  # noqa: E402
from intsnn.network.quantised import InputScale  # noqa: E402

QUICK = Tuning(epochs=2, batch=64, rate=0.01, samples=320)


@pytest.fixture(scope="module")
def digits():
    return load("digits:train:320")


@pytest.fixture(scope="module")
def trained(digits):
    """Two bits, a convolution and two dense layers: in three steps it loses something to the order of the spikes."""
    with pytest.MonkeyPatch.context() as patch:
        from intsnn.models.training import architectures as architectures_trained

        patch.setitem(architectures_trained.BLUEPRINTS, "tiny", tiny)
        stages = (
            Stage(name="float", epochs=10, rate=0.1),
            Stage(name="w4 a2", epochs=10, rate=0.05, weight_bits=4, activation_bits=2),
        )
        settings = Recipe(name="small", data="digits", architecture="tiny", batch=32, activation="clip", stages=stages)
        return train(settings, digits, device="cpu").network


def spikes(network, data):
    fmt = quantised(network, input_scale=InputScale("1/16"))
    found = simulate(convert(fmt, NeuronRule("fast-snn", cap=False)).network, data.images)
    return 100.0 * int((found.predictions == data.labels).sum()) / len(data)


def weights(network):
    return {name: module.weight.detach().clone() for name, module in network.linear.items()}


def test_tuning_keeps_what_pays_and_rolls_back_the_rest(trained, digits):
    before = weights(trained)
    outcome = tune(trained, digits, QUICK)
    assert all(torch.equal(before[name], module.weight) for name, module in trained.linear.items())  # a copy is tuned
    assert [attempt.layer for attempt in outcome.attempts] == ["dense", "dense"]
    best = spikes(trained, digits)
    for attempt in outcome.attempts:
        assert attempt.before == best and attempt.kept == (attempt.after > best)
        best = max(best, attempt.after)
    assert spikes(outcome.network, digits) == best >= spikes(trained, digits)
    kept = any(attempt.kept for attempt in outcome.attempts)
    after = weights(outcome.network)
    assert torch.equal(before["conv"], after["conv"]) and torch.equal(before["classes"], after["classes"])
    assert torch.equal(before["dense"], after["dense"]) != kept
    again = tune(trained, digits, QUICK)
    assert again.attempts == outcome.attempts
    assert all(torch.equal(after[name], value) for name, value in weights(again.network).items())


def test_what_makes_it_worse_is_rolled_back_to_the_bit(trained, digits):
    wild = replace(QUICK, rate=3.0, epochs=1)
    outcome = tune(trained, digits, wild)
    assert [attempt.kept for attempt in outcome.attempts] == [False]
    state, found = trained.state_dict(), outcome.network.state_dict()
    assert all(torch.equal(state[name], found[name]) for name in state)
    forced = tune(trained, digits, replace(wild, forced=True))
    assert forced.attempts[0].kept and forced.attempts[0].after < forced.attempts[0].before
    assert spikes(forced.network, digits) == forced.attempts[0].after


def test_the_loss_is_between_the_spikes_and_the_untouched_ann(trained, digits):
    seen = []
    real = tuning.F.mse_loss

    def spy(out, target):
        seen.append((out.detach().clone(), target.clone(), out.requires_grad))
        return real(out, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.F, "mse_loss", spy)
        tune(trained, digits, replace(QUICK, epochs=1, batch=160))
    out, target, differentiable = seen[0]
    order = torch.randperm(320, generator=tuning.generator_of(0, 0, 0)).numpy()[:160]
    images = digits.images[order]
    step = float(trained["dense_relu"].step.detach())
    x = torch.from_numpy(images).float() / 16
    levels = trained(x, record=["dense_relu"])["dense_relu"]
    assert differentiable and torch.equal(target, levels.detach())
    made_ = convert(quantised(trained, input_scale=InputScale("1/16")), NeuronRule("fast-snn", cap=False)).network
    counts = simulate(made_, images, keep_final=True).final["dense_relu.counts"]
    assert np.array_equal(np.rint(out.numpy() / step), counts)
    assert not np.array_equal(np.rint(target.numpy() / step), counts)  # else there were nothing to learn


def test_frozen_norms_keep_their_statistics(trained, digits):
    frozen = tune(trained, digits, replace(QUICK, epochs=1, forced=True)).network["dense"].norm
    free = tune(trained, digits, replace(QUICK, epochs=1, forced=True, frozen_norms=False)).network["dense"].norm
    assert torch.equal(frozen.running_mean, trained["dense"].norm.running_mean)
    assert not torch.equal(free.running_mean, trained["dense"].norm.running_mean)
    for norm in (frozen, free):
        assert not norm.training


def test_which_layers_are_tuned():
    assert layers_to_tune(made("lsq symmetric", tiny())) == [("dense", "dense_relu")]
    assert layers_to_tune(made("lsq symmetric", joined())) == [("a", "a_relu")]  # branches of joins are left alone


def test_what_cannot_be_tuned_is_said(trained, digits):
    with pytest.raises(FormatError, match="positive"):
        Tuning(epochs=0)
    with pytest.raises(ConversionError, match="no labels"):
        tune(trained, replace(digits, labels=None))
