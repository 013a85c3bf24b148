"""Any file that intsnn can read, by what is in it: own networks, quantised ANNs, trained Keras networks."""

from pathlib import Path

from ..errors import ImportRefused
from ..files import load as load_own
from ..floatnet import FloatNetwork
from ..network import Network
from ..quantised import QuantisedNetwork
from . import keras

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    architecture: str | Path | None = None,
    backend: str | None = None,
    trust: bool = False,
) -> Network | QuantisedNetwork | FloatNetwork:
    """Read a network file.

    Parameters
    ----------
    path : path
        An intsnn file (network or quantised ANN) or a trained network of Keras (``.h5``, ``.keras``).
    architecture, backend
        For Keras files that do not say them; see `intsnn.models.keras.load`.
    trust : bool
        Read in this process instead of a limited child process.

    Raises
    ------
    ImportRefused, DataNotFoundError, UnsupportedError
        In one sentence: what was found, where, and what would be right.
    """
    try:
        return load_own(path, trust=trust)
    except ImportRefused as error:
        if error.code not in ("format", "zip"):  # another layout of HDF5, or a .keras archive
            raise
    return keras.load(path, architecture=architecture, backend=backend, trust=trust)
