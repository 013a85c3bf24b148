"""`verify`: no exact network is called broken, and a difference of any kind on any path is named."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.analysis.verification import verify
from intsnn.engine import simulation
from intsnn.engine.ann import equality_conditions, integer_ann
from intsnn.engine.inputs import Events
from intsnn.engine.simulation import BACKENDS, simulate
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.layers import (
    Add,
    Affine,
    Conv2d,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
    Upsample2d,
)
from intsnn.network.spiking import Network

MODULE = sys.modules["intsnn.analysis.verification"]
BYTE = Fixed(8, signed=False)


def dense(theta, cap, **options):
    """Two layers of weights; by `options` what the network says about time."""
    layers = [Affine([[3, 1], [1, 4]]), ("n", SignedIF(theta, cap)), Affine([[1, 1], [2, 1]]), Readout()]
    return Network.sequential(Input((2,), BYTE), *layers, **options)


def codes(samples=50, shape=(2,)):
    return np.random.default_rng(0).integers(0, 256, (samples, *shape))


def equal(network, inputs, **options):
    """`verify` finds equality that is due, in a run that came to rest."""
    assert equality_conditions(network) == []
    outcome = verify(network, inputs, **options)
    assert outcome.ok and outcome.due and outcome.reasons == [] and outcome.settled
    assert outcome.ann_mismatches == outcome.path_mismatches == 0 and outcome.ann_agreement == outcome.samples
    assert outcome.first is outcome.first_ann is None
    return outcome


# -- no false alarm ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_levels_without_a_drive(steps):
    """The ANN is driven as long as the network is."""
    equal(dense(400, 3, levels=3), codes(), steps=steps)
    equal(dense(400, 3, levels=3), np.repeat(codes()[None], steps, axis=0))


@pytest.mark.parametrize("options", [{}, {"t_drive": 1}, {"t_drive": 1, "levels": 25}])
def test_a_cap_above_the_drive(options):
    """25 spikes after one driven step: the network is given the time."""
    outcome = equal(dense(10, 25, **options), codes(), steps=1)
    assert outcome.extra_steps == 24


def test_a_cap_alone_has_an_ann():
    """Neither t_drive nor levels: the caps say what the levels are."""
    outcome = equal(dense(400, 3), codes(), steps=5)
    assert outcome.compared > 0 and "fused" in outcome.paths


def test_equality_is_not_due_where_a_run_did_not_settle(monkeypatch):
    monkeypatch.setattr("intsnn.network.schedule.settling_steps", lambda network, driven: 2)
    outcome = verify(dense(10, 25, t_drive=1), codes())
    assert not outcome.settled and outcome.ann_mismatches > 0 and outcome.ok and not outcome.due
    assert outcome.reasons == ["not every sample came to rest"] and outcome.first is None


def test_equality_is_not_due_where_something_overflowed():
    """In the second batch: the first is compared all the same."""
    layers = [Affine([[1]]), ("n", SignedIF(100, 3, v_format=Fixed(9), v_overflow=Overflow.SAT)), Readout()]
    network = Network.sequential(Input((1,), BYTE), *layers, t_drive=3)
    inputs = np.full((70, 1), 90)
    inputs[65] = 255
    outcome = verify(network, inputs, reference=1)
    assert outcome.ok and not outcome.due and outcome.overflows > 0
    assert outcome.reasons == [f"{outcome.overflows} overflows were seen"]


def test_a_difference_counts_in_batches_where_equality_is_due(monkeypatch):
    layers = [Affine([[1]]), ("n", SignedIF(100, 3, v_format=Fixed(9), v_overflow=Overflow.SAT)), Readout()]
    network = Network.sequential(Input((1,), BYTE), *layers, t_drive=3)
    inputs = np.full((70, 1), 90)
    inputs[65] = 255
    plant(monkeypatch, "prepare_ann", lambda result: change(result.levels, "n", (3, 0)), samples=64)
    outcome = verify(network, inputs, reference=0)
    assert not outcome.due and not outcome.ok and outcome.mismatches == 1
    assert outcome.first.layer == "n.counts" and outcome.first.sample == 3


def test_a_total_that_the_ann_cannot_hold_is_a_reason():
    layer = Affine([[1 << 30], [-(1 << 30)]], weight_format=Fixed(32))
    neuron = SignedIF((1 << 47) - 1, 3, v_format=Fixed(48), threshold_format=Fixed(48))
    network = Network.sequential(Input((1,), Fixed(32)), ("w", layer), neuron, Readout(), t_drive=20, levels=3)
    outcome = verify(network, np.full((2, 1), (1 << 31) - 1))
    assert outcome.ok and not outcome.due and outcome.reasons[0].startswith("w (Affine): its total over 20 steps")
    assert outcome.neurons == {}


def test_lists_and_no_samples():
    equal(dense(400, 3, t_drive=3), codes(3).tolist())
    outcome = verify(dense(400, 3, levels=3), codes(0))
    assert outcome.ok and outcome.samples == 0 and not outcome.due


def theorem(rng):
    """A random network that the theorem speaks of, an input and steps: every number that is free takes its corners."""

    def pick(*values):
        return values[rng.integers(len(values))]

    shape = (int(rng.integers(1, 3)), int(rng.integers(2, 4)), int(rng.integers(2, 4)))
    fmt = Fixed(4, signed=bool(rng.integers(2)))
    nodes, edges = {"in": Input(shape, fmt, pick(1, 1, 2, -1), pick(0, 0, 3, -2))}, []
    levels, t_drive = pick(None, 1, 3, 7), pick(None, 1, 2, 3, 7)

    def put(layer, *sources):
        last, name = list(nodes)[-1], f"{type(layer).__name__.lower()}{len(nodes)}"
        nodes[name] = layer
        edges.extend((source, name) for source in sources or (last,))
        return name

    def neuron(channels):
        theta = rng.integers(1, pick(4, 30, 300), channels)
        cap = levels if levels is not None else int(pick(1, 2, 3, 9, 40))
        start, late, most = pick(theta >> 1, 0, -5, theta + 3, 2 * theta), pick(0, 1), pick(1, 1, 1, 2, 5)
        parts = {"reset_delay": late, "max_spikes_per_step": most}
        return Neuron(theta, v_initial=start, signed=True, max_count=cap, **parts)

    def bias(channels):
        return {"bias": pick(None, rng.integers(-40, 60, channels)), "bias_mode": pick("step", "spread", "once")}

    for _ in range(int(rng.integers(1, 6))):
        kind, last = pick("conv", "conv", "neuron", "neuron", "max", "sum", "join", "scale", "up"), list(nodes)[-1]
        channels, height, width = Network(nodes, edges).shapes[last] if edges else shape
        if kind == "conv":
            size, outputs = int(rng.integers(1, 3)), int(rng.integers(1, 4))
            if size <= min(height, width):
                padding = pick(0, 1, ((0, 1), (1, 0))) if size > 1 else 0
                weight = rng.integers(-5, 6, (outputs, channels, size, size))
                put(Conv2d(weight, padding=padding, delay=pick(0, 0, 1), multiplier=pick(1, 1, -2, 3), **bias(outputs)))
        elif kind == "neuron":
            put(neuron(channels))
        elif kind in ("max", "sum"):
            if min(height, width) > 1:
                put((MaxPool2d if kind == "max" else SumPool2d)(2, pick(1, 2), pick(0, 0, ((0, 1), (1, 0)))))
        elif kind == "scale":
            put(Scale(rng.integers(-3, 5, channels)))
        elif kind == "up":
            if height * width < 10:
                put(Upsample2d(2, pick("nearest", "zeros")))
        else:
            branch = put(Conv2d(rng.integers(-3, 4, (channels, channels, 1, 1)), delay=pick(0, 1)))
            if rng.integers(2):
                branch = put(neuron(channels))
            put(Add(), last, branch)
    shape_now = Network(nodes, edges).shapes[list(nodes)[-1]] if edges else shape
    if not any(isinstance(layer, Neuron) for layer in nodes.values()):
        put(neuron(shape_now[0]))
    if pick(0, 1, 1):
        put(Flatten())
        put(Affine(rng.integers(-4, 5, (3, int(np.prod(shape_now)))), delay=pick(0, 1), **bias(3)))
        if rng.integers(2):
            put(neuron(3))
    if not isinstance(list(nodes.values())[-1], Neuron) or rng.integers(2):
        put(Readout(pick("sum", "count")))
    given = pick(None, 1, 2, 4, 9)
    inputs = rng.integers(fmt.min, fmt.max + 1, ((3, *shape) if given is None else (given, 3, *shape)))
    if given is not None and rng.integers(2):
        flat = inputs.reshape(given, 3, -1)
        place = np.nonzero(flat)
        inputs = Events(*place, given, 3, flat[place])
    steps = pick(None, 1, 3, 8)
    if steps is None and t_drive is None and given is None:
        steps = 2
    return Network(nodes, edges, t_drive=t_drive, levels=levels), inputs, steps


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_networks_of_the_theorem_are_equal(seed):
    """Whatever says how long they are driven; and the ANN is what the oracle comes to rest with."""
    network, inputs, steps = theorem(np.random.default_rng(seed))
    equal(network, inputs, reference=1, steps=steps)
    expected = oracle.simulate(network, inputs, steps=steps, settle=True)
    assert integer_ann(network, inputs, steps=steps).outputs.tolist() == expected["outputs"] and expected["settled"]
    run = simulate(network, inputs, steps=steps, settle=True)
    assert run.outputs.tolist() == expected["outputs"] and run.extra_steps.tolist() == expected["extra"]


# -- what is planted is named -----------------------------------------------------------------------


def network():
    """Feed-forward, with an equal ANN and a fused form: convolution, max-pool, two layers of neurons, readout."""
    rng = np.random.default_rng(3)
    return Network.sequential(
        Input((1, 4, 4), BYTE), Conv2d(rng.integers(-7, 8, (3, 1, 3, 3)), padding=1), ("one", SignedIF(900, 3)),
        ("max", MaxPool2d(2)), Flatten(), Affine(rng.integers(-7, 8, (5, 12))), ("two", SignedIF(6, 3)),
        Affine(rng.integers(-7, 8, (4, 5))), ("r", Readout()), t_drive=3, levels=3,
    )  # fmt: skip


def images():
    return codes(6, (1, 4, 4))


def change(values, key, at, by=1):
    values[key][at] += by


def plant(monkeypatch, name, alter, samples=4, **given):
    """Let function `name` of the module alter its result, where it works on so many samples with the options `given`.

    `verify` runs two batches: two samples with the reference, then four without.
    """
    exact = getattr(MODULE, name)
    if name == "prepare_ann":  # what it makes is called with inputs
        monkeypatch.setattr(MODULE, name, lambda network, **options: partial(wrong, run=exact(network, **options)))

    def wrong(*arguments, run=exact, **options):
        inputs = arguments[-1]
        result = run(*arguments, **options)
        if len(inputs) == samples and all(options[key] == value for key, value in given.items()):
            replaced = alter(result)
            return result if replaced is None else replaced
        return result

    if name != "prepare_ann":
        monkeypatch.setattr(MODULE, name, wrong)


def named(monkeypatch, **expected):
    """The one difference that `verify` must find."""
    outcome = verify(network(), images(), reference=2)
    assert not outcome.ok and outcome.mismatches == expected.pop("mismatches", 1)
    found = outcome.first
    assert {key: getattr(found, key) for key in expected} == expected, found
    assert found.between in str(found) and found.layer in str(found) and "against" in str(found)
    return outcome


@pytest.mark.parametrize("key", ["one", "max", "two", "outputs"])
def test_the_count_path_is_held_against_the_layers(monkeypatch, key):
    """On the first samples; what differs there differs from the settled network too."""
    at = (1, 2) if key in ("two", "outputs") else (1, 2, 1, 0)

    def alter(result):
        change({"outputs": result.outputs, **result.levels}, key, at)

    plant(monkeypatch, "prepare_ann", alter, samples=2)
    layer = key if key == "outputs" else f"{key}.counts"
    between = "integer ANN by layers against count path"
    found = verify(network(), images(), reference=2)
    assert found.path_mismatches == 1 and found.due_mismatches >= 1 and not found.ok
    assert (found.first.between, found.first.layer, found.first.sample, found.first.neuron) == (
        between,
        layer,
        1,
        at[1:],
    )


def test_nothing_planted():
    outcome = equal(network(), images(), reference=2)
    assert outcome.paths == ("layer", "step", "fused", "reference") and outcome.reference_samples == 2
    assert outcome.layers == {"one": 0, "max": 0, "two": 0, "outputs": 0}
    assert outcome.neurons == {"one": 6 * 48, "max": 6 * 12, "two": 6 * 5, "outputs": 6 * 4}


# path that lies, samples of the batch, number of its first sample; `layer` differs from all others
PATHS = [("step", 4, 2), ("step", 2, 0), ("reference", 2, 0)]


@pytest.mark.parametrize("path, samples, first", PATHS)
@pytest.mark.parametrize("by", [1, -1])
def test_one_spike(monkeypatch, path, samples, first, by):
    plant(
        monkeypatch,
        "simulate",
        lambda result: change(result.records, "one.spikes", (2, 1, 0, 3, 2), by),
        samples,
        path=path,
    )
    named(
        monkeypatch,
        between=f"layer path against {path}",
        layer="one.spikes",
        sample=first + 1,
        step=2,
        neuron=(0, 3, 2),
    )


@pytest.mark.parametrize("path", ["step", "reference"])
def test_one_membrane_of_one_step(monkeypatch, path):
    plant(monkeypatch, "simulate", lambda result: change(result.records, "two.v", (1, 1, 4)), 2, path=path)
    outcome = named(monkeypatch, between=f"layer path against {path}", layer="two.v", sample=1, step=1, neuron=(4,))
    assert outcome.first.found == outcome.first.expected + 1


@pytest.mark.parametrize("path, samples, first", PATHS)
@pytest.mark.parametrize("key", ["one.counts", "max.counts", "two.counts", "one.v", "two.v"])
def test_final_counts_and_membranes(monkeypatch, path, samples, first, key):
    at = (1, 0) if key.startswith("two") else (1, 2, 1, 0)
    plant(monkeypatch, "simulate", lambda result: change(result.final, key, at), samples, path=path)
    named(monkeypatch, between=f"layer path against {path}", layer=key, sample=first + 1, step=None, neuron=at[1:])


@pytest.mark.parametrize("path, samples, first", PATHS)
@pytest.mark.parametrize("key, at", [("outputs", (1, 3)), ("predictions", (1,)), ("extra_steps", (1,))])
def test_results_of_a_path(monkeypatch, path, samples, first, key, at):
    def alter(result):
        getattr(result, key)[at] += 1

    plant(monkeypatch, "simulate", alter, samples, path=path)
    name = key.replace("_", " ")
    named(monkeypatch, between=f"layer path against {path}", layer=name, sample=first + 1, step=None, neuron=at[1:])


@pytest.mark.parametrize("path, samples", [("step", 4), ("reference", 2)])
@pytest.mark.parametrize("word", ["spikes", "saturations", "dead", "peak_v", "sum_low"])
def test_counters_of_a_path(monkeypatch, path, samples, word):
    def alter(result):
        setattr(result.layers["two"], word, getattr(result.layers["two"], word) + 1)

    plant(monkeypatch, "simulate", alter, samples, path=path)
    outcome = named(monkeypatch, between=f"layer path against {path}", layer=f"two.{word}", sample=None, step=None)
    assert "all samples" in str(outcome.first)


@pytest.mark.parametrize("path, samples, first", PATHS)
def test_settled(monkeypatch, path, samples, first):
    def alter(result):
        result.settled = not result.settled

    plant(monkeypatch, "simulate", alter, samples, path=path)
    named(monkeypatch, between=f"layer path against {path}", layer="settled", expected=1, found=0)


@pytest.mark.parametrize("path, samples, first", PATHS)
@pytest.mark.parametrize("more", [1, -1])
def test_length_of_records(monkeypatch, path, samples, first, more):
    """One run goes on for longer, in silence or not."""
    lengths = []

    def alter(result):
        spikes = result.records["two.spikes"]
        lengths.append(len(spikes))
        result.records["two.spikes"] = spikes[:-1] if more < 0 else np.concatenate([spikes, spikes[-1:] * 0])

    plant(monkeypatch, "simulate", alter, samples, path=path)
    outcome = named(
        monkeypatch, mismatches=5 * samples, between=f"layer path against {path}", layer="two.spikes", sample=first
    )
    (length,) = lengths
    assert outcome.first.step == min(length, length + more)
    assert (outcome.first.expected, outcome.first.found) == (length, length + more)


@pytest.mark.parametrize(
    "key, at", [("outputs", (2, 3)), ("extra_steps", (2,)), ("predictions", (2,)), ("settled", ())]
)
def test_the_fused_path(monkeypatch, key, at):
    def alter(result):
        if key == "settled":
            return replace(result, settled=False)
        for part in (result.predictions, result.outputs) if key == "outputs" else ():
            assert part.size  # the predictions are made before the outputs are changed
        getattr(result, key)[at] -= 1
        return None

    plant(monkeypatch, "simulate", alter, path="fused")
    outcome = verify(network(), images(), reference=2)
    found = outcome.first
    assert outcome.mismatches == 1 and found.between == "layer path against fused"
    assert (found.layer, found.step) == (key.replace("_", " "), None)
    assert found.sample == (4 if at else None) and found.neuron == at[1:] and found.found == found.expected - 1


def test_a_backend_that_is_added_is_compared(monkeypatch):
    class Off:
        name, gives = "off", frozenset({"outputs"})

        def refuses(self, program, frames=False):
            return None

        def run(self, request):
            result = BACKENDS[-1].run(request)
            result.outputs[-1, -1] += 1
            return result

    monkeypatch.setattr(simulation, "BACKENDS", (Off(), *BACKENDS))
    outcome = verify(network(), images(), reference=1)
    assert "off" in outcome.paths and not outcome.ok
    assert outcome.first.between == "layer path against off" and outcome.first.layer == "outputs"


@pytest.mark.parametrize("samples, first", [(4, 2), (2, 0)])
def test_a_layer_path_that_lies(monkeypatch, samples, first):
    """It is what the others are compared with: all of them differ, and so does the ANN."""
    plant(monkeypatch, "simulate", lambda result: change({"": result.outputs}, "", (0, 1)), samples, path="layer")
    others = 3 if samples == 2 else 2
    outcome = named(
        monkeypatch,
        mismatches=others + 1,
        between="layer path against step",
        layer="outputs",
        sample=first,
        neuron=(1,),
    )
    assert outcome.path_mismatches == others and outcome.ann_mismatches == 1
    assert outcome.first.expected == outcome.first.found + 1


@pytest.mark.parametrize("layer, at", [("one", (3, 1, 2, 0)), ("max", (0, 2, 1, 1)), ("two", (2, 4))])
def test_levels_of_one_layer(monkeypatch, layer, at):
    plant(monkeypatch, "prepare_ann", lambda result: change(result.levels, layer, at))
    outcome = named(
        monkeypatch, between="integer ANN against settled network", layer=f"{layer}.counts", sample=2 + at[0],
        step=None, neuron=at[1:],
    )  # fmt: skip
    assert outcome.layers[layer] == 1 and sum(outcome.layers.values()) == 1 and outcome.ann_agreement == 6
    assert outcome.first.expected == outcome.first.found + 1 and outcome.first == outcome.first_ann


@pytest.mark.parametrize("key, at", [("outputs", (1, 2)), ("predictions", (1,))])
def test_answers_of_the_ann(monkeypatch, key, at):
    plant(monkeypatch, "prepare_ann", lambda result: change({"": getattr(result, key)}, "", at))
    outcome = named(
        monkeypatch, between="integer ANN against settled network", layer=key, sample=3, step=None, neuron=at[1:]
    )
    assert outcome.layers[key] == 1 and outcome.ann_agreement == (5 if key == "predictions" else 6)


def test_differences_from_the_ann_that_are_not_due(monkeypatch):
    plant(monkeypatch, "prepare_ann", lambda result: change(result.levels, "one", (0, 0, 0, 0)))
    monkeypatch.setattr(MODULE, "equality_conditions", lambda network: ["the moon"])
    outcome = verify(network(), images(), reference=2)
    assert outcome.ok and outcome.first is None and outcome.ann_mismatches == 1 and outcome.reasons == ["the moon"]
    assert outcome.first_ann.sample == 2


def test_the_first_of_several(monkeypatch):
    """Before all others the one of the earliest batch and layer; of paths before that of the ANN."""

    def alter(result):
        change(result.final, "two.counts", (0, 0))
        change(result.records, "two.spikes", (3, 1, 1))
        change(result.records, "two.spikes", (1, 3, 2))
        change(result.records, "two.spikes", (2, 1, 4))

    plant(monkeypatch, "simulate", alter, path="step")
    plant(monkeypatch, "prepare_ann", lambda result: change(result.levels, "one", (0, 0, 0, 0)))
    named(monkeypatch, mismatches=5, layer="two.spikes", sample=3, step=2, neuron=(4,))


def test_currents_and_leaking_neurons(monkeypatch):
    """A network without ANN: u of every step is compared too."""
    rng = np.random.default_rng(1)
    neuron = CubaLIF(40, Decay.by_shift(2), Decay.by_shift(3), max_count=3)
    network = Network.sequential(
        Input((2,), BYTE), Affine(rng.integers(-3, 4, (3, 2))), ("n", neuron), Readout(), t_drive=3
    )
    outcome = verify(network, codes(4))
    assert outcome.ok and not outcome.due and outcome.neurons == {} and "fused" in outcome.paths
    assert "n leaks" in outcome.reasons[0]
    plant(monkeypatch, "simulate", lambda result: change(result.records, "n.u", (2, 1, 0)), 2, path="reference")
    outcome = verify(network, codes(4))
    assert outcome.mismatches == 1 and outcome.first.layer == "n.u"
    assert (outcome.first.sample, outcome.first.step, outcome.first.neuron) == (1, 2, (0,))


def test_frames_and_events():
    """Every form of input, cut into batches."""
    frames = np.random.default_rng(2).integers(0, 3, (5, 70, 1, 4, 4))
    step, sample, index = np.nonzero(frames.reshape(5, 70, 16))
    events = Events(step, sample, index, 5, 70, frames.reshape(5, 70, 16)[step, sample, index])
    found = Network({**network().nodes, "input_0": Input((1, 4, 4), Fixed(3))}, network().edges, t_drive=7, levels=3)
    one, two = (equal(found, inputs, reference=3) for inputs in (frames, events))
    assert one == two
