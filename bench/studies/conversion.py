"""What does converting a trained network cost? The tables of ``docs/conversion.md`` and of the README.

``python -m intsnn.bench.studies.conversion PART ... --networks DIR`` measures PART (``reached``, ``stages``,
``calibration``, ``roundings``, ``membranes``; all without a name) with the Keras networks in DIR and the data sets
under ``INTSNN_DATA``, and writes ``docs/figures/PART.json``; ``python -m intsnn.bench.figures`` then writes the tables.
``widths RESULTS`` takes the results of ``intsnn bench``. Calibration is on training data alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis.scores import accuracy
from ...analysis.verification import verify
from ...conversion.fold import fold
from ...conversion.pipeline import Pipeline, convert_float, input_format
from ...conversion.quantise import quantise_network
from ...conversion.spikes import NeuronRule, convert
from ...datasets.catalogue import Dataset
from ...datasets.catalogue import load as data_set
from ...engine.ann import integer_ann
from ...engine.simulation import simulate
from ...errors import ConversionError
from ...models import digits
from ...models.readers import load
from ...network.floating import FloatNetwork
from ...network.quantised import InputScale, QuantisedNetwork
from ..figures import commit, store, today
from ..figures import load as read_result
from ..sweep.results import read_rows

__all__ = ["NETWORKS", "PARTS", "Trained", "made", "main", "membranes", "reached", "roundings", "small_codes"]


@dataclass(frozen=True)
class Trained:
    """A network of other people: its file, how it is shown, its data for calibration and test, and its widths."""

    file: str
    shown: str
    learn: str
    test: str
    about: str
    widths: tuple[tuple[int, int], ...] = ((8, 4), (4, 4))
    backend: str | None = None
    scale: InputScale | None = None


MNIST = ("mnist:train:10000", "mnist", "MNIST, 10,000")
CIFAR = ("cifar10-test1900:train", "cifar10-test1900", "CIFAR-10, 1,900 lossless images")
NETWORKS = (
    Trained("mlp_98.15.h5", "`mlp_98.15`", *MNIST),
    Trained("99.20.h5", "`99.20` (average pool)", *MNIST, backend="theano"),
    Trained("99.16.h5", "`99.16` (max-pool)", *MNIST, backend="theano"),
    Trained("weights.09-0.99.h5", "`weights.09` (LeNet)", *MNIST),
    Trained("lenet5_keras_98.96_b.h5", "`lenet5_keras_98.96_b`", *MNIST),
    Trained("lenet5_keras_99.14.h5", "`lenet5_keras_99.14`", *MNIST),
    Trained("83.62_parsed.h5", "`83.62` (4 convolutions)", *CIFAR, widths=((8, 4),), backend="theano"),
    Trained(
        "mlperf_tiny_resnet8.h5",
        "`mlperf_tiny_resnet8` (w8 a5)",
        *CIFAR,
        widths=((8, 5),),
        scale=InputScale(Fraction(1)),
    ),
)
VERIFIED = 1000  # test images of a network that all paths run in steps
ROUNDINGS, WIDTHS = ("nearest", "compensated", "auto"), (1, 2, 3, 4, 8)
LENET, FOUR, RESNET = (next(n for n in NETWORKS if n.file.startswith(s)) for s in ("lenet5_keras_99", "83", "mlperf"))


def made(
    network: Trained,
    folder: Path,
    weights: int,
    activations: int,
    evaluation: Dataset,
    learn: Dataset | None = None,
    **options: Any,
) -> Pipeline:
    """`network` of `folder`, converted at these widths and measured on `evaluation`."""
    trained = load(folder / network.file, backend=network.backend)
    if not isinstance(trained, FloatNetwork):
        raise ConversionError(f"{network.file}: found a {type(trained).__name__}; a trained float network is needed")
    return convert_float(
        trained, learn or data_set(network.learn), evaluation=evaluation, weight_bits=weights,
        activation_bits=activations, input_scale=network.scale, **options,
    )  # fmt: skip


def _percent(found: Pipeline, name: str) -> float:
    return next(stage.accuracy for stage in found.stages if stage.name == name and stage.accuracy is not None)


def reached(folder: Path, network: Trained, threads: int = 1, check: bool = True) -> dict[str, Any]:
    """Float and settled accuracy of one network at its widths, and (`check`) what `verify` found on `VERIFIED` images.

    Settled answers are those of all test data: by the equality theorem, which `verify` looks after.
    """
    test = data_set(network.test)
    row: dict[str, Any] = {"network": network.shown, "data": network.about}
    for weights, activations in network.widths:
        found = made(network, folder, weights, activations, test, threads=threads)
        key = "w8 a4" if weights == 8 else f"w{weights} a{activations}"
        row["float"] = _percent(found, "float")
        row[key] = _percent(found, "SNN, settled")
        if not check:
            continue
        few = np.linspace(0, len(test) - 1, min(VERIFIED, len(test))).round().astype(np.int64)
        outcome = verify(found.network, test.images[few], reference=1, threads=threads)
        row["verified"] = len(few)
        row["mismatches"] = row.get("mismatches", 0) + outcome.mismatches
        row["compared"] = row.get("compared", 0) + outcome.compared
        row["due"] = row.get("due", True) and outcome.due
    return row


def _reached(folder: Path, threads: int, keep: Callable[..., None], out: Path) -> None:
    """A row is stored as soon as it is measured, with its own commit and date; the others stay as they are."""
    file = out / "reached.json"
    rows = {row["network"]: row for row in (read_result(file)["results"] if file.is_file() else [])}
    columns = [["network", "network"], ["data", "data"], *([k, k, ".2f"] for k in ("float", "w8 a4", "w4 a4"))]
    for network in NETWORKS:
        old = rows.get(network.shown, {})
        if old.get("commit") == commit():
            continue
        rows[network.shown] = {**reached(folder, network, threads), "commit": commit(), "date": today()}
        order = [n.shown for n in NETWORKS if n.shown in rows]
        keep("trained Keras networks in integers, settled, per cent right; mismatches as `verify` counts them",
             "MNIST, 10,000 test images; CIFAR-10, 1,900 lossless test images", columns,
             [rows[name] for name in order])  # fmt: skip


NAMES = {
    "float": "float", "clip": "activations clipped", "activations": "activation levels", "weights": "weights",
    "bias": "bias correction", "joins": "joins in one unit", "thresholds": "thresholds and biases (integer ANN)",
}  # fmt: skip


def _stages(folder: Path, threads: int, keep: Callable[..., None], out: Path) -> None:
    rows: dict[str, dict[str, Any]] = {}
    titles = {"4 convolutions, w8 a4": (FOUR, 8, 4), "ResNet-8, w8 a5": (RESNET, 8, 5)}
    for title, (network, weights, activations) in titles.items():
        test = data_set(network.test)
        found = made(network, folder, weights, activations, test, threads=threads)
        for stage in found.stages[:-2]:
            name = NAMES[stage.name.split()[0]]
            rows.setdefault(name, {"after": name})[title] = f"{stage.accuracy:.2f}"
        drive, rest = found.stages[-2:]
        extra = simulate(found.network, test.images, settle=True, threads=threads).extra_steps.max()
        for name, text in (
            ("spikes, T steps", f"{drive.accuracy:.2f} (T = {found.network.t_drive})"),
            ("spikes, settled", f"{rest.accuracy:.2f} ({extra} steps more)"),
        ):
            rows.setdefault(name, {"after": name})[title] = text
    order = [*NAMES.values(), "spikes, T steps", "spikes, settled"]
    columns = [["after", "after"], *([title, title] for title in titles)]
    results = [{"after": name, **dict.fromkeys(titles, "–"), **rows[name]} for name in order if name in rows]
    keep("per cent right after each stage of a conversion",
         "CIFAR-10: 4,000 lossless training images, 1,900 lossless test images", columns, results)  # fmt: skip


def _calibration(folder: Path, threads: int, keep: Callable[..., None], out: Path) -> None:
    test, sizes, results = data_set(RESNET.test), (500, 1000, 2000, 4000), []
    for name, corrected in (("with bias correction", True), ("without", False)):
        row: dict[str, Any] = {"row": name}
        for size in sizes:
            learn = data_set(f"{RESNET.learn}:{size}")
            found = made(RESNET, folder, 8, 5, test, learn, bias_correction=corrected, threads=threads)
            row[f"{size:,}"] = int((integer_ann(found.network, test.images).predictions == test.labels).sum())
        results.append(row)
    columns = [["calibration images", "row"], *([f"{size:,}", f"{size:,}", ","] for size in sizes)]
    keep("images right of 1,900, integer ANN of ResNet-8, w8 a5",
         "CIFAR-10: lossless training images, 1,900 lossless test images", columns, results)  # fmt: skip


def roundings(
    name: str,
    trained,
    learn: Dataset,
    test: Dataset,
    roundings: tuple[str, ...] = ROUNDINGS,
    widths: tuple[int, ...] = WIDTHS,
) -> list[dict[str, Any]]:
    """Per cent right of the integer ANN at 4-bit activations, by rounding of the weights and their width."""
    found = []
    for rounding in roundings:
        row: dict[str, Any] = {"row": f"{name}, {rounding}"}
        for bits in widths:
            result = convert_float(
                trained, learn, evaluation=_few(test), weight_bits=bits, activation_bits=4, rounding=rounding
            )
            predictions = integer_ann(result.network, test.images).predictions
            row[str(bits)] = accuracy(predictions, np.asarray(test.labels))
        found.append(row)
    return found


def _few(test: Dataset) -> Dataset:
    """Stages are not asked for here: one sample is enough for them."""
    return replace(test, images=test.images[:1], labels=np.asarray(test.labels)[:1])


def _roundings(folder: Path, threads: int, keep: Callable[..., None], out: Path) -> None:
    results = roundings("LeNet", load(folder / LENET.file), data_set("mnist:train:2000"), data_set("mnist:test:2000"))
    results += roundings("digits", load(digits.network_file()), data_set("digits:train"), data_set("digits:test"))
    columns = [["weights", "row"], *([f"{b} bit{'s' * (b > 1)}", str(b), ".2f"] for b in WIDTHS)]
    keep("per cent right of the integer ANN by rounding of the weights, activations of 4 bits",
         "MNIST: 2,000 training images, first 2,000 test images; digits: 1,437 and 360", columns, results)  # fmt: skip


ASKED: tuple[tuple[str, dict[str, int]], ...] = (
    ("default", {}), *((f"`--max-shift {r}`", {"most_shift": r}) for r in (4, 2, 1, 0)),
    *((f"`--membrane-bits {bits}`", {"membrane_bits": bits}) for bits in (24, 22, 20, 16)),
)  # fmt: skip


def membranes(
    name: str, source: QuantisedNetwork, test: Dataset, asked=ASKED, threads: int = 1
) -> list[dict[str, Any]]:
    """Refinements, widths and moved levels by what is `asked` for, and per cent right of the settled network."""
    found = []
    for text, options in asked:
        row: dict[str, Any] = {"row": f"{name}, {text}"}
        try:
            made = convert(source, NeuronRule(**options))
        except ConversionError as error:
            found.append(row | {"bits": "refused: " + str(error).split("; ")[-1].split(", or ")[0]})
            continue
        layers = [made.layers[neuron] for neuron in made.network.neurons]
        row |= {"r": ", ".join(str(layer["shift"]) for layer in layers)}
        row |= {"bits": ", ".join(str(layer["needed_bits"]) for layer in layers)}
        moved, levels = (sum(layer[key] for layer in layers) for key in ("moved_levels", "levels"))
        row |= {"moved": f"{moved:,} of {levels:,}"}
        run = simulate(made.network, test.images, settle=True, threads=threads)
        if run.overflows:
            raise ConversionError(f"{name}, {text}: {run.overflows} overflows; none is possible")
        found.append(row | {"right": accuracy(run.predictions, np.asarray(test.labels))})
    return found


def small_codes(trained, learn: Dataset) -> QuantisedNetwork:
    """`trained` at w4 a4, calibrated on `learn`."""
    return quantise_network(
        fold(trained), learn.images, weight_bits=4, activation_bits=4, input_scale=InputScale(learn.scale),
        input_format=input_format(learn),
    ).network  # fmt: skip


def _membranes(folder: Path, threads: int, keep: Callable[..., None], out: Path) -> None:
    results = []
    for name, file, learn, test in (
        ("LeNet", folder / LENET.file, LENET.learn, LENET.test),
        ("digits", digits.network_file(), "digits:train", "digits:test"),
    ):
        results += membranes(name, small_codes(load(file), data_set(learn)), data_set(test), threads=threads)
    columns = [
        ["asked", "row"], ["r of each layer", "r"], ["bits that each needs", "bits"], ["moved levels", "moved"],
        ["right", "right", ".2f"],
    ]  # fmt: skip
    keep("membranes at w4 a4 by what is asked for; per cent right of the settled network",
         f"{LENET.about} test images; digits: 360 test images", columns, results)  # fmt: skip


PARTS: dict[str, Callable[[Path, int, Callable[..., None], Path], None]] = {
    "reached": _reached, "stages": _stages, "calibration": _calibration, "roundings": _roundings,
    "membranes": _membranes,
}  # fmt: skip


def widths(results: Path, command: str, out: Path) -> None:
    """Store the accuracies of a sweep over weights and activations: a row a network and width of the weights."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    found = sorted(read_rows(results), key=lambda r: (r["model"], -r["weight_bits"], r["activation_bits"], r["method"]))
    levels: dict[int, int] = {}
    for cell in found:
        row = rows.setdefault(
            (cell["model"], cell["weight_bits"]),
            {
                "network": f"`{Path(cell['model']).name.removesuffix('.h5')}`", "float": cell["float_accuracy"],
                "weight bits": cell["weight_bits"], "bytes": cell["weight_measured_bytes"], "mismatches": 0,
            },
        )  # fmt: skip
        key = f"a{cell['activation_bits']}"
        if row.setdefault(key, cell["accuracy"]) != cell["accuracy"]:
            raise ValueError(f"{cell['model']}: the methods do not agree at {cell['weight_bits']} bits, {key}")
        row["mismatches"] += cell["mismatches"]
        levels[cell["activation_bits"]] = cell["t_drive"]
    columns = [
        ["network", "network"], ["float %", "float", ".2f"], ["weight bits", "weight bits"],
        ["packed weights, bytes", "bytes", ","],
        *([f"{bits}-bit act. (T = {t})", f"a{bits}", ".2f"] for bits, t in sorted(levels.items())),
    ]  # fmt: skip
    samples = sorted({cell["samples"] for cell in found})
    store(out / "widths.json", f"{len(found)} cells of a sweep, settled, per cent right", command,
          f"{found[0]['data']}, {samples[-1]:,} test images", columns, rows.values())  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(
        prog="python -m intsnn.bench.studies.conversion", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="folder of the Keras networks")
    parser.add_argument("--widths", type=Path, metavar="RESULTS", help="store the table of these results of a sweep")
    parser.add_argument("--sweep", default="intsnn bench", metavar="COMMAND", help="what made them")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.widths:
        widths(options.widths, options.sweep, options.out)
        return
    if options.networks is None or not set(options.parts) <= set(PARTS):
        parser.error(f"--networks DIR is needed, and parts are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        command = f"python -m intsnn.bench.studies.conversion {part} --networks DIR"

        def keep(what: str, data: str, columns, rows, name: str = part, command: str = command) -> None:
            store(options.out / f"{name}.json", what, command, data, columns, rows)

        PARTS[part](options.networks, options.threads, keep, options.out)
        print(f"{part}: written", flush=True)


if __name__ == "__main__":
    main()
