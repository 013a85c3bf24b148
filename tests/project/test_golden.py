"""Recorded runs of other people's systems: Loihi arithmetic of Lava and its simulators, spike by spike."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from intsnn.engine.simulation import simulate
from intsnn.formats.fixed import Fixed, Rounding
from intsnn.layers import Affine, Conv2d, Decay, Input, loihi
from intsnn.network.spiking import Network

BINARY = Fixed(1, signed=False)


def whole(array):
    """A float file that holds whole numbers only, as int64."""
    result = np.asarray(array).astype(np.int64)
    assert np.array_equal(result, array)
    return result


# -- a dense block of 256 neurons over 2,000 steps --------------------------------------------------


@pytest.fixture(scope="module")
def dense(data_root):
    folder = data_root / "golden" / "lava-dense"
    if not folder.is_dir():
        pytest.skip(f"no recorded run in {folder}")
    return {name: whole(np.load(folder / f"{name}.npy")) for name in ("weight", "in", "current", "out")}


def dense_run(dense, neuron, delay=1, **options):
    network = Network.sequential(
        Input((200,), BINARY), ("w", Affine(dense["weight"], weight_format=Fixed(9), delay=delay)), ("n", neuron)
    )
    return simulate(network, dense["in"].T[:, None], record=["n.spikes", "w.current"], **options).records


LOIHI = loihi(vth=6, du=4095, dv=415)
FLOOR = replace(LOIHI, v_decay=replace(LOIHI.v_decay, rounding=Rounding.TRN))


@pytest.mark.parametrize("path", ["layer", "step"])
def test_lava_dense(dense, path):
    """Not one of 512,000 spikes is wrong, nor one synaptic sum."""
    records = dense_run(dense, LOIHI, path=path)
    assert records["n.spikes"].size == 512_000
    assert np.array_equal(records["n.spikes"][:, 0].T, dense["out"])
    assert np.array_equal(records["w.current"][:, 0].T, dense["current"])
    assert dense["out"].sum() == 1826


@pytest.mark.parametrize(
    "neuron, wrong",
    [(FLOOR, 64), (replace(LOIHI, compare=">="), 51), (replace(FLOOR, compare=">="), 95)],
    ids=["floor", "reached", "both"],
)
def test_lava_dense_tells_rules_apart(dense, neuron, wrong):
    """Neighbouring rules give known numbers of wrong spikes: the file can tell."""
    assert int((dense_run(dense, neuron)["n.spikes"][:, 0].T != dense["out"]).sum()) == wrong


def test_lava_dense_needs_its_delay(dense):
    assert not np.array_equal(dense_run(dense, LOIHI, delay=0)["n.spikes"][:, 0].T, dense["out"])


# -- one neuron over 1,000 steps --------------------------------------------------------------------

ONE = loihi(vth=int(0.1 * 131071) >> 9, du=4095, dv=int(0.04 * 4095))


@pytest.fixture(scope="module")
def traces(data_root):
    folder = data_root / "golden" / "nir-lif"
    if not folder.is_dir():
        pytest.skip(f"no recorded runs in {folder}")

    def read(name):
        return np.loadtxt(folder / f"lif_{name}.csv", delimiter=",").T

    return read


def one_run(spikes, neuron=ONE, delay=1):
    network = Network.sequential(Input((1,), BINARY), Affine([[10]], delay=delay), ("n", neuron))
    records = simulate(network, whole(spikes)[:, None, None], record=("spikes", "v")).records
    return records["n.spikes"].ravel(), records["n.v"].ravel()


def test_nir_lif_fixed_point(traces):
    """Spikes and membrane of the fixed-point simulator, all 1,000 steps."""
    given, v, fired = traces("lava_cpu_fixed")
    assert len(given) == 1000 and given.sum() == 34
    spikes, membrane = one_run(given)
    assert np.flatnonzero(spikes).tolist() == [461, 511, 711, 761]
    assert np.array_equal(spikes, fired)
    assert np.array_equal(membrane, v)


def test_nir_lif_on_the_chip(traces):
    """Spikes of the Loihi 2 chip at all steps, its membrane wherever it did not just fire."""
    given, v, fired = traces("lava_loihi_fixed")
    spikes, membrane = one_run(given)
    assert np.array_equal(spikes, fired)
    quiet = fired == 0
    assert quiet.sum() == 996 and np.array_equal(membrane[quiet], v[quiet])


def test_nir_lif_tells_the_delay(traces):
    given, _, fired = traces("lava_cpu_fixed")
    assert int((one_run(given, delay=0)[0] != fired).sum()) == 8


def test_nir_lif_in_exact_arithmetic(traces):
    """The simulators without a delay: the same neuron spikes one step earlier."""
    given, _, fired = traces("exact")
    assert np.flatnonzero(fired).tolist() == [460, 510, 710, 760]
    assert np.flatnonzero(one_run(given, delay=0)[0]).tolist() == [460, 510, 710, 760]


# -- a convolutional network of three layers --------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(data_root):
    folder, model = data_root / "golden" / "lava-tinynet", data_root / "models" / "netx" / "tiny.net"
    if not folder.is_dir() or not model.is_file():
        pytest.skip(f"no recorded run in {folder}, or no {model}")
    golden = {name: whole(np.load(folder / f"{name}.npy")) for name in ("input", "layer1", "output", "input_bias")}
    with h5py.File(model) as file:
        layers = [
            (
                whole(file[f"layer/{i}/weight"][..., 0]),
                whole(file[f"layer/{i}/bias"][()]),
                file[f"layer/{i}/stride"][()],
            )
            for i in (1, 2)
        ]
    return golden, layers


def tiny_run(tiny, **changes):
    """Frames 1 to 15 of each layer; layer l starts l steps late in the recording, here all start together.

    The input layer has no synapses but a bias for every pixel, which enters as a constant input.
    """
    golden, layers = tiny
    neuron = replace(loihi(vth=25, du=4095, dv=1024), **changes)
    parts = [Input((3, 16, 16), Fixed(7)), ("input", neuron)]
    for i, (weight, bias, stride) in enumerate(layers):
        conv = Conv2d(weight, bias, weight_format=Fixed(9), stride=tuple(int(s) for s in stride))
        parts += [conv, (("layer1", "output")[i], neuron)]
    codes = golden["input_bias"].transpose(2, 1, 0)[None]  # from X, Y, C
    records = simulate(Network.sequential(*parts), codes, steps=15, record="spikes").records
    return {name: np.moveaxis(records[f"{name}.spikes"], 0, -1) for name in ("input", "layer1", "output")}


def test_lava_tinynet(tiny):
    golden, _ = tiny
    for name, spikes in tiny_run(tiny).items():
        assert np.array_equal(spikes, golden[name][..., 1:]), name
        assert golden[name][..., 1:].sum() > 0


def test_lava_tinynet_tells_rules_apart(tiny):
    golden, _ = tiny
    for changes in ({"compare": ">="}, {"reset": "subtract"}, {"v_decay": Decay.by_multiply(4096 - 1000, 12)}):
        found = tiny_run(tiny, **changes)
        assert any(not np.array_equal(found[name], golden[name][..., 1:]) for name in found), changes
