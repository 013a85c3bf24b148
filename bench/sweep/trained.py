"""What does a cell train, and where is it kept? A training has a key, and a file of that name when it is done.

Cells that differ in method, states or driven steps find the same file. A training writes its checkpoint after every
epoch, so one that was killed goes on from there, to the same bits.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...datasets.catalogue import Dataset
from ...errors import ImportRefused
from ...files.network_file import load, read_info
from ...network.quantised import QuantisedNetwork
from ...support.atomic import replacing
from ..provenance import training_digest
from .grid import digest

if TYPE_CHECKING:
    from ...models.qat.recipes import Recipe

__all__ = ["Training", "planned", "train"]


def planned(
    recipe: Recipe, *, weight_bits: int, activation_bits: int, seed: int, epochs: int | None, first_last: int | None
) -> Recipe:
    """`recipe` with the widths of a cell in its last stage, the seed of the cell, and stages of `epochs` at most."""
    *before, last = recipe.stages
    ends = first_last or last.end_bits
    name = f"w{weight_bits} a{activation_bits}"
    last = replace(last, name=name, weight_bits=weight_bits, activation_bits=activation_bits, end_bits=ends)
    stages = [replace(stage, epochs=min(stage.epochs, epochs or stage.epochs)) for stage in (*before, last)]
    return replace(recipe, stages=tuple(stages), seed=seed)


@dataclass(frozen=True, eq=False)
class Training:
    """A recipe, what it learns (`sha256`: its digest), and the folder that it is kept in."""

    recipe: Recipe
    data: Dataset
    sha256: str
    folder: str

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that decides the outcome."""
        values = asdict(self.recipe)
        del values["note"]
        learned = {"name": self.data.name, "sha256": self.sha256, "classes": len(self.data.classes)}
        return digest({"recipe": values, "data": learned, "torch": torch_version(), "source": training_digest()})

    def __str__(self) -> str:
        last = self.recipe.stages[-1]
        return f"{self.recipe.name} w{last.weight_bits} a{last.activation_bits} seed {self.recipe.seed}"

    @property
    def file(self) -> str:
        """The trained network, once it is there."""
        return os.path.join(self.folder, f"{self.key[:32]}.h5")

    @property
    def done(self) -> bool:
        """Whether it is trained."""
        return os.path.isfile(self.file)

    @property
    def cost(self) -> int:
        """Samples that are seen, over all epochs."""
        return self.recipe.epochs * len(self.data)

    def network(self, trust: bool = False) -> QuantisedNetwork:
        """What was trained.

        Raises
        ------
        ImportRefused
            The file is damaged, or something else.
        """
        found = load(self.file, trust=trust)
        if not isinstance(found, QuantisedNetwork):
            raise ImportRefused(f"{self.file} holds no quantised ANN; remove it, and it is trained again", code="kind")
        return found

    def facts(self, trust: bool = False) -> dict[str, Any]:
        """What the file says about how it was trained."""
        return dict(read_info(self.file, trust=trust).provenance)

    def progress(self) -> tuple[int, float | None]:
        """Epochs that are done and the loss of the last one, as the process that trains has left them."""
        try:
            with open(self._beside("progress"), encoding="utf-8") as file:
                found = json.load(file)
            return int(found["epochs"]), float(found["loss"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None

    def _beside(self, ending: str) -> str:
        return f"{self.file}.{ending}"


def torch_version() -> str | None:
    """Of the torch that is installed, without loading it."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def train(training: Training) -> None:
    """Train on one thread, from the checkpoint if there is one; leaves the file of `training`, all or nothing.

    Raises
    ------
    ImportError
        torch, or what the recipe needs beside it, is not installed.
    ConversionError, FormatError, UnsupportedError
        The recipe cannot have these widths, or its loss is not finite.
    """
    import torch

    os.makedirs(training.folder, exist_ok=True)
    for name in os.listdir(training.folder):  # half-written files of a process that was killed
        if name.startswith(f".{os.path.basename(training.file)}") and name.endswith(".tmp"):
            os.remove(os.path.join(training.folder, name))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _train(training, str(torch.__version__))
    finally:
        torch.set_num_threads(threads)


def _train(training: Training, version: str) -> None:
    from ...models.qat.bridge import export
    from ...models.qat.training import train as run

    checkpoint, progress = training._beside("checkpoint"), training._beside("progress")
    done = [0]

    def log(entry: dict[str, Any]) -> None:
        before = sum(stage.epochs for stage in training.recipe.stages[: entry["stage"]])
        done[0] = before + entry["epoch"]
        with replacing(progress) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump({"epochs": done[0], "loss": entry["loss"]}, file)

    try:
        found = run(training.recipe, training.data, checkpoint=checkpoint, device="cpu", log=log)
    except ImportRefused:  # no checkpoint that can be read
        found = run(training.recipe, training.data, checkpoint=checkpoint, device="cpu", log=log, resume=False)
    facts = {
        "source": "intsnn bench", "settings": asdict(training.recipe), "data": training.data.name,
        "data_sha256": training.sha256, "torch": version, "threads": 1, "key": training.key,
        "epochs": len(found.history), "loss": found.history[-1]["loss"],
    }  # fmt: skip
    export(found.network, training.file, maximum=training.data.maximum, provenance=facts)
    for left in (checkpoint, progress):
        with contextlib.suppress(OSError):
            os.remove(left)
