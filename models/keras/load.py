"""How does a trained Keras network get in?

Reads the legacy HDF5 files of Keras 1, 2 and 3 (whole models, and weights with the architecture as JSON), ``.keras``
archives and ``.weights.h5`` files, without Keras: numpy, json, zipfile and the bounded HDF5 reader. Nothing in the file
is executed or looked up by name except in closed tables of layers and functions, and what a layer does is written out
as nodes of :mod:`intsnn.network.floating`. What is not in the tables is an error that names the layer.

The parts, each below the next: `graph` (one layer), `calls` and `architecture` (which layers, in which order), `files`
and `weights` (what a file holds, and whose it is), `axes` and `builder` (how tensors of Keras become ours), `layers`
(what each becomes), `assembly` (where they are joined).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...errors import DataNotFoundError, ImportRefused, IntsnnError
from ...formats.arguments import flag, instance, path_of, whole, wholes
from ...network.floating import FloatNetwork
from . import files as keras_files
from .assembly import assembled, reading_problems
from .files import Source
from .graph import MAX_SIDE

__all__ = ["load", "problems"]


def load(
    path: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    input_shape: Sequence[int] | None = None,
    trust: bool = False,
    budget: int = 1 << 30,
) -> FloatNetwork:
    """Read a trained Keras network.

    Parameters
    ----------
    path : path-like
        ``.h5``/``.hdf5`` of Keras 1, 2 or 3, ``.keras``, or ``.weights.h5``; told apart by content.
    architecture : path-like, optional
        JSON as ``model.to_json()`` writes it, for files that hold weights only. A JSON of the same name beside ``path``
        is taken by itself where the file has no architecture.
    backend : {"theano", "tensorflow"}, optional
        What the network was trained with, where the file does not say: Theano stores convolution kernels flipped.
    input_shape : sequence of int, optional
        ``(C, H, W)``, ``(C, L)`` of a signal or ``(N,)`` where the file leaves it open.
    trust : bool
        Read HDF5 in this process; see :func:`intsnn.files.hdf5.read_tree`.
    budget : int
        Most bytes of weights.

    Returns
    -------
    FloatNetwork
        ``metadata`` has ``format, keras_version, backend, source_sha256``, ``notes``, and ``tensors``: one entry per
        array with path, shape, dtype, min, max and what was done to its axes.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    ImportRefused
        If a file breaks a rule of the bounded reader, is no Keras file, has a damaged or absurd configuration (``code``
        ``json, json-size, json-depth, config``), weights that do not belong (``weights``), no architecture
        (``architecture``), or leaves the backend open (``backend``).
    UnsupportedError
        If a layer or an option has no counterpart here; the message names it.
    ShapeError
        If weights and architecture do not fit together.
    """
    options = _checked(path, architecture, backend, input_shape, trust, budget)
    return assembled(_opened(options), options.backend, options.input_shape)


def problems(
    path: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    input_shape: Sequence[int] | None = None,
    trust: bool = False,
    budget: int = 1 << 30,
) -> list[str]:
    """Say everything that stands against reading a trained Keras network, layer by layer.

    Parameters are those of :func:`load`.

    Returns
    -------
    list of str
        A sentence for each layer that cannot be read, with what to do; empty if `load` takes the file. Behind a layer
        whose output has an unknown shape, only kinds and options are looked at.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    FormatError
        If an argument is none.
    """
    options = _checked(path, architecture, backend, input_shape, trust, budget)
    try:
        source = _opened(options)
    except DataNotFoundError:
        raise
    except IntsnnError as error:
        return [str(error)]
    return reading_problems(source, options.backend, options.input_shape)


@dataclass(frozen=True)
class _Options:
    path: str
    architecture: str | None
    backend: str | None
    input_shape: tuple[int, ...] | None
    trust: bool
    budget: int


def _checked(path, architecture, backend, input_shape, trust, budget) -> _Options:
    label = path_of(path)
    trust, budget = flag(trust, "trust"), whole(budget, "budget", 1)
    architecture = None if architecture is None else path_of(architecture, "architecture")
    instance(backend, "backend", str, none=True, needed="the name of a backend")
    if input_shape is not None:
        input_shape = tuple(wholes(input_shape, "input_shape", 1, MAX_SIDE))
    if backend not in (None, "theano", "tensorflow"):
        raise ImportRefused(f"backend {backend!r} is not known; give 'theano' or 'tensorflow'", code="backend")
    return _Options(label, architecture, backend, input_shape, trust, budget)


def _opened(options: _Options) -> Source:
    """What the file holds, with its architecture."""
    source = keras_files.read(options.path, trust=options.trust, budget=options.budget)
    architecture = options.architecture
    if architecture is None and source.config is None:
        beside = os.path.splitext(options.path)[0] + ".json"
        architecture = beside if os.path.isfile(beside) else None
    if architecture is not None:
        source = replace(source, config=keras_files.read_json(os.fspath(architecture)))
    if source.config is None:
        raise ImportRefused(
            f"{options.path} holds weights only; give the architecture as JSON (model.to_json()), with "
            "architecture= or --architecture, or beside it under the same name",
            code="architecture",
        )
    return source
