"""Binary weights against full precision on event data: the study behind ``docs/events.md``.

``python -m intsnn.bench.studies.events PART --folder DIR``; every training leaves a JSON file there, so that a study
that is interrupted goes on where it was. Parts:

``seeds``
    A recipe and its twin on generated streams, over some seeds: accuracy of the integer network on all test streams
    against the float network of full precision, and every spike of some streams against torch.
``folds``
    Cross-validation over all recordings of N-MNIST that are there, with the interval of Wilson.
``memory``
    Files of standard architectures with binary weights in every layer, beside the same weights as float32.
``report``
    What the folder holds, as JSON.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.decoders import read_npz
from ...datasets.splitmix import shuffled
from ...errors import DataNotFoundError, FormatError
from ...files.network_file import load, save, stored_bytes
from ...support.atomic import replacing
from ...support.pipes import say as show
from ..provenance import digest_of, source_digest, sources

if TYPE_CHECKING:
    from ...models.bptt.recipes import EventRecipe

__all__ = ["fold_parts", "folds", "main", "memory", "report", "seeds", "wilson"]

FOLDS = 10
COMPARED = 100  # test streams of which every spike is compared
FRAME_SOURCES = (
    "kernels/inputs/camera.py", "intsnn/datasets/camera.py", "intsnn/datasets/events.py",
    "intsnn/datasets/event_files.py", "intsnn/datasets/framing.py",
)  # fmt: skip
SIZES = {"vgg11": (3, 32, 32), "plif": (2, 34, 34)}


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion, in per cent (Wilson 1927)."""
    if total < 1:
        return 0.0, 100.0
    share, spread = right / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return 100.0 * (middle - half), 100.0 * (middle + half)


def fold_parts(count: int, folds: int = FOLDS) -> list[np.ndarray]:
    """`count` recordings in so many parts, by a fixed permutation."""
    return [part for part in np.array_split(shuffled(count, 0), folds)]


def _kept(
    folder: Path,
    name: str,
    work: Callable[[], dict[str, Any]],
    say: Callable[[str], None],
    settings: dict | None = None,
) -> dict[str, Any]:
    """The result of `work`, from its file if that is there and of the same `settings`."""
    file = folder / f"{name}.json"
    if not file.exists():
        found = work() | {"source_sha256": source_digest()}
        with replacing(file) as temporary:
            Path(temporary).write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        say(f"{name}: {found.get('accuracy', found.get('torch_accuracy'))}")
    kept = json.loads(file.read_text("utf-8"))
    if settings is not None and kept["recipe"] != json.loads(json.dumps(settings)):
        raise FormatError(f"{file} is the result of other settings; give another folder, or remove it")
    return kept


def _train(chosen: EventRecipe, data: Any, test: Any, folder: Path, name: str, compared: int = COMPARED) -> dict:
    """One training, and its integer network on the test data if it has one."""
    from ...models.bptt.integers import integer_network
    from ...models.bptt.training import train
    from ...models.bptt.work import measure

    trained = train(chosen, data, test, checkpoint=folder / f"{name}.checkpoint", device="cpu")
    values: dict[str, Any] = {
        "recipe": asdict(chosen), "data": data.name, "samples": len(data), "test": test.name, "test_samples": len(test),
        "torch_accuracy": trained.history[-1]["accuracy"], "seconds": trained.seconds, "history": trained.history,
    }  # fmt: skip
    if chosen.weight != "float":
        network = integer_network(trained.network, metadata={"recipe": chosen.name, "seed": chosen.seed})
        save(network, folder / f"{name}.h5", provenance={"settings": asdict(chosen)})
        values |= measure(trained, load(folder / f"{name}.h5"), test, compared=compared)  # type: ignore[arg-type]
        values["file_bytes"] = (folder / f"{name}.h5").stat().st_size
    (folder / f"{name}.checkpoint").unlink(missing_ok=True)
    return values


def _frames(spec: str, chosen: EventRecipe, folder: Path) -> Any:
    """Binned recordings, kept in the folder as bits or bytes: making them takes a while."""
    from ...models.bptt.training import Frames, load_frames

    binning = asdict(chosen.binning)
    made_by = {key: path for key, path in sources().items() if key in FRAME_SOURCES}
    name = f"{spec} {json.dumps(binning, sort_keys=True)} {digest_of(made_by)}".encode()
    file = folder / f"frames-{hashlib.sha256(name).hexdigest()[:16]}.npz"
    if not file.exists():
        found = load_frames(spec, chosen)
        bits = np.packbits(found.frames.reshape(-1)) if chosen.binning.clip == 1 else found.frames.reshape(-1)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, bits=bits, shape=found.frames.shape, labels=found.labels, classes=found.classes)
    kept = read_npz(file, ("bits", "shape", "labels", "classes"))
    shape = tuple(kept["shape"].tolist())
    flat = np.unpackbits(kept["bits"])[: math.prod(shape)] if chosen.binning.clip == 1 else kept["bits"]
    return Frames(spec, flat.reshape(shape), kept["labels"], int(kept["classes"]))


def seeds(name: str, numbers: Iterable[int], folder: Path, say: Callable[[str], None] = show, **changes: Any) -> None:
    """Train the recipe `name` and its twin with each seed, and measure both on all test streams.

    Parameters
    ----------
    name : str
        A recipe with quantised weights.
    numbers : iterable of int
        Seeds.
    folder : path
        Where results go, and come from if they are there.
    changes
        Fields of the recipe.
    """
    from ...models.bptt.recipes import recipe

    chosen = recipe(name, **changes)
    twin = replace(chosen, weight="float", first="same", last="same", name=f"{chosen.name} (twin)")
    data, test = (_frames(spec, chosen, folder) for spec in (chosen.train_spec, f"{chosen.data}:test"))
    for seed in numbers:
        for each, kind in ((chosen, chosen.weight), (twin, "float")):
            label = f"seeds-{name}-{seed}-{kind}"
            found = replace(each, seed=seed)
            _kept(folder, label, functools.partial(_train, found, data, test, folder, label), say, asdict(found))


def folds(name: str, folder: Path, say: Callable[[str], None] = show, twin: bool = True, **changes: Any) -> None:
    """Cross-validate the recipe `name` (and its twin) over the training and test recordings together."""
    from ...models.bptt.recipes import recipe
    from ...models.bptt.training import Frames

    chosen = recipe(name, **changes)
    parts = [_frames(f"{chosen.data}:{part}", chosen, folder) for part in ("train", "test")]
    whole = Frames(
        chosen.data, np.concatenate([part.frames for part in parts]), np.concatenate([part.labels for part in parts]),
        parts[0].classes,
    )  # fmt: skip
    held = fold_parts(len(whole))
    for weight in (chosen.weight, *(["float"] if twin else [])):
        each = replace(chosen, weight=weight, name=chosen.name if weight != "float" else f"{chosen.name} (twin)")
        for number, out in enumerate(held):
            rest = np.concatenate([part for i, part in enumerate(held) if i != number])
            label = f"folds-{name}-{number}-{weight}"
            learn, test = whole.part(rest, f"{whole.name}, fold {number} out"), whole.part(out, f"fold {number}")
            _kept(
                folder, label,
                functools.partial(_train, each, learn, test, folder, label, 10),
                say,
                asdict(each),
            )  # fmt: skip


def memory(folder: Path, say: Callable[[str], None] = show) -> None:
    """Files of standard architectures with binary weights in every layer, beside the same weights as float32.

    ``weight_bytes`` are the packed weights in the file, ``stored_bytes`` all arrays, numbers and texts in it
    (thresholds, biases, names), ``file_bytes`` the file with what HDF5 needs for itself. The networks are not trained.
    """
    from ...models.bptt.integers import integer_network
    from ...models.bptt.recipes import recipe
    from ...models.bptt.training import build, scatter_norms
    from ...models.bptt.work import weight_bytes, write_floats

    for architecture, shape in SIZES.items():

        def work(architecture: str = architecture, shape: tuple[int, ...] = shape) -> dict[str, Any]:
            chosen = recipe("plif-saccades-binary-all", architecture=architecture, width=1.0)
            network = build(chosen, shape, 10)
            network.quantise()
            scatter_norms(network)  # thresholds and biases of the widths that training gives
            with tempfile.TemporaryDirectory() as temporary:
                packed, floats = Path(temporary) / "packed.h5", Path(temporary) / "float.h5"
                integers = integer_network(network.eval())
                save(integers, packed)
                write_floats(network, floats)
                count, stored = weight_bytes(integers)
                sizes = packed.stat().st_size, floats.stat().st_size
                everything = sum(sum(fields.values()) for fields in stored_bytes(integers).values())
            return {
                "architecture": architecture, "input_shape": list(shape), "weights": count, "weight_bytes": stored,
                "float_weight_bytes": 4 * count, "stored_bytes": everything, "file_bytes": sizes[0],
                "float_file_bytes": sizes[1], "ratio_weights": 4 * count / stored,
                "ratio_stored": 4 * count / everything, "ratio_files": sizes[1] / sizes[0],
            }  # fmt: skip

        found = _kept(folder, f"memory-{architecture}", work, lambda text: None)
        say(
            f"{architecture}: float32 weights {found['float_weight_bytes']:,} bytes, packed {found['weight_bytes']:,} "
            f"({found['ratio_weights']:.2f}x), with thresholds, biases and all else {found['stored_bytes']:,} "
            f"({found['ratio_stored']:.2f}x), file {found['file_bytes']:,} ({found['ratio_files']:.2f}x)"
        )


def _group(folder: Path, pattern: str) -> dict[str, list[dict[str, Any]]]:
    """Results whose file names match, by what stands before and after their number."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob(pattern)):
        start, _, kind = file.stem.rpartition("-")
        groups.setdefault(f"{start.rpartition('-')[0]} {kind}", []).append(json.loads(file.read_text("utf-8")))
    return groups


def report(folder: Path) -> dict[str, Any]:
    """Everything that the folder holds, summed up.

    Returns
    -------
    dict
        ``groups``: for each recipe and kind of weights the accuracies (of the integer network, for the twin those of
        torch), their mean, pooled counts, the interval of Wilson for as many recordings as there
        are, and the sums of what differs from torch;
        ``drops``: accuracy of the twin less that of the integer network for each seed or fold; ``memory``.
    """
    found: dict[str, Any] = {"groups": {}, "drops": {}, "memory": {}}
    accuracies: dict[str, dict[str, list[float]]] = {}
    for pattern in ("seeds-*.json", "folds-*.json"):
        for group, results in _group(folder, pattern).items():
            each = [result.get("accuracy", result["torch_accuracy"]) for result in results]
            total = sum(result["test_samples"] for result in results)
            times = len(results) if pattern.startswith("seeds") else 1  # how often each recording was looked at
            right = sum(round(a * result["test_samples"] / 100) for a, result in zip(each, results, strict=True))
            entry: dict[str, Any] = {
                "accuracies": each, "mean": 100.0 * right / total, "right": right, "total": total,
                "interval": wilson(round(right / times), total // times),
                "torch_accuracies": [result["torch_accuracy"] for result in results],
            }  # fmt: skip
            for key in ("spikes_compared", "spikes", "differing_integers", "differing_float32", "differing_float64"):
                if key in results[0]:
                    entry[key] = sum(result[key] for result in results)
            for key in ("weights", "weight_bytes", "file_bytes"):
                if key in results[0]:
                    entry[key] = results[0][key]
            found["groups"][group] = entry
            name, _, kind = group.rpartition(" ")
            accuracies.setdefault(name, {})[kind] = each
    for name, kinds in accuracies.items():
        for kind, values in kinds.items():
            if kind != "float" and len(kinds.get("float", ())) == len(values):
                drops = [a - b for a, b in zip(kinds["float"], values, strict=True)]
                found["drops"][f"{name} {kind}"] = {"each": drops, "mean": sum(drops) / len(drops)}
    for file in sorted(folder.glob("memory-*.json")):
        found["memory"][file.stem.removeprefix("memory-")] = json.loads(file.read_text("utf-8"))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run a part of the study."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.studies.events", description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("seeds", "folds", "memory", "report"))
    parser.add_argument("--folder", type=Path, required=True, help="where the results are kept")
    parser.add_argument("--recipe", help="default: plif-saccades-binary, plif-nmnist-binary for the folds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, metavar="N", help="seeds: learn the first N streams only")
    parser.add_argument("--no-twin", action="store_true", help="folds of the quantised network alone")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        raise DataNotFoundError(f"there is no folder {options.folder}; make it first")
    if options.part in ("seeds", "folds"):
        from ...models.bptt.training import one_thread

        one_thread()
    if options.part == "seeds":
        changes = {"samples": options.samples} if options.samples else {}
        seeds(options.recipe or "plif-saccades-binary", options.seeds, options.folder, **changes)
    elif options.part == "folds":
        folds(options.recipe or "plif-nmnist-binary", options.folder, twin=not options.no_twin)
    elif options.part == "memory":
        memory(options.folder)
    show(json.dumps(report(options.folder), indent=2))


if __name__ == "__main__":
    main()
