"""How accurate is a converted network at each width of its weights? The curve that more bits must not bend down.

``python -m intsnn.bench.studies.width_curves NET.h5 --data mnist --calibrate mnist:train:4000 -o FILE.json`` converts
NET with default options at every width of ``--weights`` and counts right answers of the integer ANN on all of
``--data``. That is what the spiking network comes to at rest (`intsnn verify`). Its sums are made here by BLAS
products of whole numbers that floats hold exactly, which a bound proves before each; the first ``--check`` samples
are compared with `intsnn.integer_ann`, level for level. FILE is written after each width and read again: a run that
was killed goes on.

``python -m intsnn.bench.studies.width_curves --join FILE.json ... -o docs/figures/width-curves.json`` makes one table
of such files, a row for each network.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from ...analysis.scores import accuracy
from ...conversion.fold import fold
from ...conversion.pipeline import check_fit, input_format
from ...conversion.quantise import calibrate, quantise_network
from ...conversion.spikes import convert
from ...datasets import catalogue as datasets
from ...engine.ann import integer_ann
from ...errors import FormatError, IntsnnError, RangeError
from ...formats.arguments import instance
from ...layers.base import padding_pairs, pair
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input, Readout
from ...layers.reshape import Flatten, Upsample2d
from ...models.readers import load
from ...network.float_nodes import FloatAffine, FloatConv2d, FloatMaxPool2d, FloatNode, FloatUpsample2d
from ...network.floating import FloatNetwork, forward
from ...network.quantised import InputScale
from ...network.spiking import Network
from ...support.atomic import replacing
from ...support.pipes import say

__all__ = ["joined", "levels_and_outputs", "main"]

BATCH = 250


def levels_and_outputs(network: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of the integer ANN of a converted network and levels of its neurons and their pools, by name.

    All are int64 ``(B, *shape)``; `codes` are raw inputs ``(B, *shape)``.

    Raises
    ------
    RangeError
        A sum that no float holds exactly.
    """
    values: dict[str, np.ndarray] = {}
    factor: dict[str, int] = {}  # what values still have to be multiplied by: an input code flows in every driven step
    for name in network.order:
        layer, sources = network.nodes[name], network.inputs_of(name)
        x = [values[source] for source in sources]
        factor[name] = factor[sources[0]] if sources else 1
        if isinstance(layer, Input):
            values[name] = codes.astype(np.int64).reshape(-1, *layer.shape) * layer.multiplier + layer.offset
            factor[name] = network.t_drive or 1
        elif isinstance(layer, Affine | Conv2d):
            y = _product(name, layer, x[0])
            spread = (-1, *(1,) * (y.ndim - 2))
            y = y * (np.asarray(layer.multiplier).reshape(spread) * factor[name])
            values[name] = y if layer.bias is None else y + layer.bias.reshape(spread)
            factor[name] = 1
        elif isinstance(layer, Neuron):
            shape = (-1, *(1,) * (x[0].ndim - 2))
            theta, start = (np.asarray(v, np.int64) for v in (layer.threshold, layer.v_initial))
            theta, start = (v.reshape(shape) if v.ndim else v for v in (theta, start))
            charge = x[0] * factor[name] + start
            values[name] = np.clip(charge // theta, 0, layer.max_count)
            factor[name] = 1
        elif isinstance(layer, Scale):
            scale = np.asarray(layer.scale)
            values[name] = x[0] * (scale.reshape(-1, *(1,) * (x[0].ndim - 2)) if scale.ndim else scale)
        elif isinstance(layer, Add):
            values[name] = np.sum([v * factor[source] for v, source in zip(x, sources, strict=True)], axis=0)
            factor[name] = 1
        elif isinstance(layer, SumPool2d):
            channels = x[0].shape[1]
            ones = Conv2d(
                np.ones((channels, 1, *pair(layer.kernel_size, "kernel_size")), np.int64),
                stride=pair(layer.stride, "stride"), padding=layer.padding, groups=channels,
            )  # fmt: skip
            values[name] = _product(name, ones, x[0])
        elif isinstance(layer, Readout):
            values[name] = x[0]
        else:
            values[name] = _moved(name, layer, x[0])
    return {name: values[name] * factor[name] for name in (*network.spiking, network.output_name)}


def _moved(name: str, layer, x: np.ndarray) -> np.ndarray:
    if isinstance(layer, Flatten):
        return x.reshape(len(x), -1)
    node: FloatNode
    if isinstance(layer, MaxPool2d):
        node = FloatMaxPool2d(
            name=name, kernel=pair(layer.kernel_size, "kernel_size"), stride=pair(layer.stride, "stride"),
            padding=padding_pairs(layer.padding, "padding"),
        )  # fmt: skip
    elif isinstance(layer, Upsample2d):
        node = FloatUpsample2d(name=name, factor=pair(layer.factor, "factor"), mode=layer.mode)
    else:
        raise RangeError(f"{name}: a {type(layer).__name__} is not known here")
    return node.apply([x.astype(np.float64)]).astype(np.int64)


def _product(name: str, layer, x: np.ndarray) -> np.ndarray:
    """Weights times inputs, in the narrower float that provably holds every partial sum."""
    weight = layer.weight
    bound = int(np.abs(weight.reshape(len(weight), -1)).sum(axis=1).max()) * int(np.abs(x).max(initial=0))
    if bound >= 1 << 53:
        raise RangeError(f"{name}: a sum can reach {bound}, and floats are exact to 53 bits")
    kind = np.float32 if bound < 1 << 24 else np.float64
    node: FloatNode
    if isinstance(layer, Affine):
        node = FloatAffine(name=name, weight=weight.astype(kind))
    else:
        node = FloatConv2d(
            name=name, weight=weight.astype(kind), stride=layer.stride, padding=layer.padding,
            dilation=layer.dilation, groups=layer.groups,
        )  # fmt: skip
    return node.apply([x.astype(kind)]).astype(np.int64)


def _checked(network: Network, codes: np.ndarray) -> None:
    """Compare with `integer_ann`."""
    ann, found = integer_ann(network, codes), levels_and_outputs(network, codes)
    for name, levels in ann.levels.items():
        if not np.array_equal(levels, found[name]):
            raise RangeError(f"{name}: the levels of the products are not those of the integer ANN")
    if not np.array_equal(ann.outputs, found[network.output_name].reshape(len(codes), -1)):
        raise RangeError("the outputs of the products are not those of the integer ANN")


def _right(network: Network, images: np.ndarray, labels: np.ndarray) -> float:
    guesses = []
    for start in range(0, len(images), BATCH):
        found = levels_and_outputs(network, images[start : start + BATCH])
        guesses.append(found[network.output_name].argmax(axis=1))
    return accuracy(np.concatenate(guesses), labels)


def _commit() -> str | None:
    """Of the source tree that this file lies in."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def joined(cells: list[dict]) -> dict:
    """One table of the entries of several files: a row for each network and width of its activations."""
    rows: dict[tuple, dict] = {}
    for cell in cells:
        stem, bits = cell["network"].rsplit(".", 1)[0], cell["activations"]
        data = cell["data"].removesuffix(":test")
        start = {"network": f"`{stem}`", "data": f"{data}, {cell['images']:,}", "a": bits, "float": cell["float"]}
        row = rows.setdefault((stem, bits, data), start)
        row[str(cell["weights"])] = cell["accuracy"]
        if cell["rounding"] == "compensated":
            row["compensated"] = max(cell["weights"], row.get("compensated", 0))
    widths = sorted({cell["weights"] for cell in cells})
    return {
        "what": "per cent right of the integer ANN, which the spiking network comes to at rest, by bits of the weights",
        "command": "python -m intsnn.bench.studies.width_curves NET --data DATA --calibrate DATA -o FILE; see cells",
        "commit": ", ".join(sorted({cell["commit"] or "?" for cell in cells})),
        "data": ", ".join(sorted({f"{cell['data']} calibrated on {cell['calibrated_on']}" for cell in cells})),
        "date": max(cell["date"] for cell in cells),
        "columns": [
            ["network", "network"], ["data", "data"], ["a", "a", "d"], ["float", "float", ".2f"],
            *([f"w{width}", str(width), ".2f"] for width in widths), ["compensated up to w", "compensated", "d"],
        ],
        "results": list(rows.values()),
        "cells": cells,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.studies.width_curves", description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--data")
    parser.add_argument("--calibrate")
    parser.add_argument("--join", nargs="+", metavar="FILE")
    parser.add_argument("--weights", default="1,2,3,4,5,6,7,8")
    parser.add_argument("--activations", default="4")
    parser.add_argument("--rounding", default="auto")
    parser.add_argument("--backend")
    parser.add_argument("--input-scale")
    parser.add_argument("--check", type=int, default=16)
    parser.add_argument("--commit", default=None, help="where the source is no git tree")
    parser.add_argument("-o", "--output", required=True)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    if not options.join and not (options.model and options.data and options.calibrate):
        parser.error("give NET.h5 with --data and --calibrate, or --join FILE.json ...")
    try:
        if options.join:
            cells = [row for path in options.join for row in json.loads(Path(path).read_text("utf-8"))["results"]]
            with replacing(options.output) as part:
                Path(part).write_text(json.dumps(joined(cells), indent=1) + "\n", "utf-8")
        else:
            _run(options, given)
    except IntsnnError as error:
        say(f"Error: {error}")
        return 3
    return 0


def _run(options, given: list[str]) -> None:
    output = Path(options.output)
    store = json.loads(output.read_text()) if output.exists() else {"results": []}
    read = load(options.model, **({"backend": options.backend} if options.backend else {}))
    network: FloatNetwork = instance(read, options.model, FloatNetwork, needed="a network that is not quantised yet")
    data, samples = datasets.load(options.data), datasets.load(options.calibrate)
    if data.labels is None:
        raise FormatError(f"data {data.name}: an accuracy needs labels")
    for part in (data, samples):
        check_fit(network, part)
    scale = InputScale.parse(options.input_scale) if options.input_scale else InputScale(samples.scale)
    folded = fold(network)
    shared = calibrate(folded, samples.images, scale)
    trained = accuracy(forward(network, scale.apply(data.images)).argmax(axis=1), data.labels)
    name, commit = Path(options.model).name, options.commit or _commit()
    said = [Path(part).name if part in (options.model, options.output) else part for part in given]
    if options.commit:
        said = [part for part in said if part not in ("--commit", options.commit)]
    for bits in options.activations.split(","):
        for width in options.weights.split(","):
            key = {
                "network": name, "weights": int(width), "activations": int(bits), "data": data.name,
                "calibrated_on": samples.name, "asked": options.rounding,
            }  # fmt: skip
            if any(key.items() <= row.items() and row["commit"] == commit for row in store["results"]):
                continue
            made = quantise_network(
                folded, shared, weight_bits=int(width), activation_bits=int(bits), rounding=options.rounding,
                input_format=input_format(samples),
            )  # fmt: skip
            spiking = convert(made.network).network
            _checked(spiking, data.images[: options.check])
            row = key | {
                "accuracy": _right(spiking, data.images, data.labels), "float": trained, "images": len(data),
                "rounding": made.rounding, "errors": made.errors, "commit": commit,
                "date": datetime.date.today().isoformat(),
                "command": "python -m intsnn.bench.studies.width_curves " + shlex.join(said),
            }  # fmt: skip
            store["results"] = [old for old in store["results"] if not key.items() <= old.items()] + [row]
            with replacing(output) as temporary:
                Path(temporary).write_text(json.dumps(store, indent=1) + "\n")
            say(f"{name}: w{width} a{bits} {row['accuracy']:.2f} (float {trained:.2f}, {made.rounding})")


if __name__ == "__main__":
    raise SystemExit(main())
