"""Any file that intsnn can read, by what is in it: own networks, trained ones of Keras, ONNX, PyTorch; the zoo."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataNotFoundError, ImportRefused, IntsnnError, ShapeError
from ..files.hdf5 import read_tree
from ..files.network_file import is_ours
from ..files.network_file import load as load_own
from ..formats.arguments import flag, instance, path_of, wholes
from ..network.floating import FloatNetwork
from ..network.quantised import QuantisedNetwork
from ..network.spiking import Network
from .keras import load as keras
from .torch.advice import RECIPE
from .zoo import catalogue as zoo

__all__ = ["load", "reasons"]

SKIPPED = ("optimizer_weights", "optimizer", "metrics", "_metrics")  # of Keras files: not part of a network
HEAD = 1 << 16
STATE = "a state dict"
TAKEN = (
    "networks are taken from files of intsnn, of Keras (.h5, .keras, and .weights.h5 with the JSON of the "
    "architecture), of ONNX, and from state dicts of PyTorch (HDF5, .safetensors) with an architecture"
)
FROM_TORCH = f"where the module can be made, save it with {RECIPE}, or export it to ONNX"
FROM_TENSORFLOW = "save the Keras model as one file, model.save('net.h5'), or bring it to ONNX with tf2onnx"
# the first bytes of files that hold no network that is taken, what they are, and the step that leads to one
OTHERS = (
    (b"\x93NUMPY", "an array of NumPy", "arrays are data: --data and --calibrate take them"),
    (b"\x80", "a pickle, as PyTorch writes (never loaded here)", FROM_TORCH),
    (b"{", "JSON, at best an architecture without weights", "give the file of the weights, and this as --architecture"),
    (b"\x1f\x8b", "packed with gzip", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
)


def load(
    path: str | Path,
    *,
    architecture: str | Path | None = None,
    backend: str | None = None,
    input_shape: Sequence[int] | None = None,
    trust: bool = False,
) -> Network | QuantisedNetwork | FloatNetwork:
    """Read a network file, whatever it is called: its content says which reader takes it.

    Parameters
    ----------
    path : path
        An intsnn file (network, quantised or float ANN), a trained network of Keras (``.h5``, ``.keras``) or ONNX, or
        ``zoo:NAME`` (`intsnn.models.zoo.catalogue`).
    architecture : path, optional
        For weights without one: the JSON of a Keras model, or of a state dict the JSON or TOML list of its layers or a
        float network (`intsnn.models.torch.load_state`).
    backend : str, optional
        For Keras files that do not say it; see `intsnn.models.keras.load.load`.
    input_shape : sequence of int, optional
        ``(C, H, W)`` or ``(N,)`` where the file leaves it open.
    trust : bool
        Read in this process instead of a limited child process.

    Raises
    ------
    ImportRefused, DataNotFoundError, UnsupportedError
        In one sentence: what was found, where, and what would be right.
    """
    path = os.fspath(zoo.find(path_of(path)))
    architecture = None if architecture is None else path_of(architecture, "architecture")
    backend = instance(backend, "backend", str, none=True, needed="the name of a backend")
    shape = None if input_shape is None else wholes(input_shape, "input_shape", 1, 1 << 31)
    trust = flag(trust, "trust")
    head = _head(path)
    if head is not None and not head.startswith((b"\x89HDF", b"PK\x03\x04")):
        from .onnx.wire import is_onnx

        if is_onnx(head):
            from .onnx.load import load as load_onnx

            return load_onnx(path, input_shape=shape, trust=trust)
        if architecture is not None and _is_safetensors(head):
            return _state(path, architecture, shape, trust)
        raise _refused(path, *_what_else(head))
    try:
        return _of_shape(load_own(path, trust=trust), shape)
    except ImportRefused as error:
        if _is_for_us(path, trust):
            raise error from None
    try:
        return keras.load(path, architecture=architecture, backend=backend, input_shape=shape, trust=trust)
    except ImportRefused as error:
        if error.code not in ("not-keras", "zip"):
            raise
        found = _what_zip(path) if error.code == "zip" else _what_hdf5(path, trust)
        if found is None:
            raise
        if found[0].startswith(STATE) and architecture is not None:
            return _state(path, architecture, shape, trust)
        raise _refused(path, *found) from None


def _state(path: str, architecture: str, shape: tuple[int, ...] | None, trust: bool) -> FloatNetwork:
    """A state dict with the list of its layers."""
    from .torch.state import load_state

    return _of_shape(load_state(path, architecture, trust=trust), shape)


def reasons(path: str | Path, **options) -> list[tuple[str, str]]:
    """Every reason why a file does not become a spiking network: the layer, ``""`` for all of it, and why.

    Options are those of `load`. A network that spikes already has none.
    """
    from ..conversion.fold import obstacles

    try:
        network = load(path, **options)
    except DataNotFoundError:
        raise
    except IntsnnError as error:
        head = _head(os.fspath(zoo.find(path_of(path)))) or b""
        if isinstance(error, ImportRefused) and error.code == "format":
            return [("", str(error))]
        # a file of Keras: its reader goes on behind the first layer that it does not take
        found = keras.problems(path, **options) if head.startswith((b"\x89HDF", b"PK\x03\x04")) else []
        return [("", reason) for reason in found or [str(error)]]
    return [] if isinstance(network, Network) else obstacles(network)


def _of_shape(network, shape: tuple[int, ...] | None):
    """A network of ours, which says its shape, and has to have the one that was asked for."""
    if shape is not None:
        graph = getattr(network, "graph", network)
        own = graph.input_shape if isinstance(graph, FloatNetwork) else graph.shapes[graph.input_name]
        if own != shape:
            raise ShapeError(f"input_shape: found {shape}; the file says {own}")
    return network


def _is_for_us(path: str, trust: bool) -> bool:
    """Whether a file that was refused is for no importer: it claims to be ours, or no HDF5 can be read from it."""
    try:
        # an importer skips what it does not need; of a file that may be foreign no more than one attribute is looked at
        return is_ours(read_tree(path, trust=trust, skip=SKIPPED, attributes=("format",)))
    except ImportRefused as error:
        return error.code != "zip"  # a .keras archive


# -- what no reader takes -------------------------------------------------------------------------


def _head(path: str) -> bytes | None:
    """The first bytes of a file; None where there is none, which its reader says better."""
    if os.path.isdir(path) and os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise _refused(path, "a SavedModel folder of TensorFlow", FROM_TENSORFLOW)
    try:
        with open(path, "rb") as file:
            return file.read(HEAD) if os.path.isfile(path) else None
    except OSError:
        return None


def _refused(path: str, what: str, step: str) -> ImportRefused:
    return ImportRefused(f"{path}: is {what}; {TAKEN}; {step}", code="format")


def _what_else(head: bytes) -> tuple[str, str]:
    """What a file is that is neither HDF5 nor a zip archive nor ONNX, and the step that leads to one that is taken."""
    if not head:
        return "empty", "give the file that the training program wrote"
    if head[4:8] == b"TFL3":
        return "a network of TensorFlow Lite", FROM_TENSORFLOW
    if _is_safetensors(head):
        return f"{STATE} in safetensors, arrays without an architecture", f"give it as --architecture; or {FROM_TORCH}"
    for begin, what, step in OTHERS:
        if head.lstrip(b" \r\n\t\xef\xbb\xbf" if begin == b"{" else b"").startswith(begin):
            return what, step
    return "of no known format", "export the network to ONNX, or save it as HDF5 by Keras"


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a header, and that."""
    return 2 <= int.from_bytes(head[:8], "little") < 100_000_000 and head[8:9] == b"{"


def _what_zip(path: str) -> tuple[str, str] | None:
    """What a zip archive is that is no model of Keras; None if it is damaged, which was said already."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return None
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch archive (pickled, never loaded here)", FROM_TORCH
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", "arrays are data: --data and --calibrate take them"
    if "config.json" in names and "model.weights.h5" in names:
        return None  # a model of Keras with a fault that was named
    return "a zip archive without a network", "give the file that is in it"


def _what_hdf5(path: str, trust: bool) -> tuple[str, str] | None:
    """What an HDF5 file is that is neither ours nor of Keras."""
    try:
        tree = read_tree(path, trust=trust, attributes=("version",))
    except IntsnnError:
        return None
    names = set(tree.datasets)
    if "node" in tree.groups and ("version" in tree.attributes.get("", {}) or "version" in names):
        return "a graph in NIR, for which there is no reader", "give the ANN that it was made of"
    if any(group.startswith("layer/0") for group in tree.groups) or "layer/0/type" in names:
        return "a network of lava-dl, for which there is no reader", "give the ANN that it was made of"
    if any(name.replace("/", ".").endswith((".weight", ".running_mean")) for name in names):
        return f"{STATE} in HDF5, arrays without an architecture", f"give it as --architecture; or {FROM_TORCH}"
    return "HDF5, but of no program that is known here", "export the network to ONNX, or save it by Keras"
