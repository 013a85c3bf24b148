"""Any file that intsnn can read, by what is in it: own networks, quantised ANNs, trained Keras networks; the zoo."""

from pathlib import Path

from ..errors import ImportRefused
from ..files.hdf5 import read_tree
from ..files.network_file import is_ours
from ..files.network_file import load as load_own
from ..formats.arguments import flag, instance, path_of
from ..network.floating import FloatNetwork
from ..network.quantised import QuantisedNetwork
from ..network.spiking import Network
from .keras import load as keras
from .zoo import catalogue as zoo

__all__ = ["load"]

SKIPPED = ("optimizer_weights", "optimizer", "metrics", "_metrics")  # of Keras files: not part of a network


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
        An intsnn file (network, quantised or float ANN), a trained network of Keras (``.h5``, ``.keras``), or
        ``zoo:NAME`` (`intsnn.models.zoo.catalogue`).
    architecture, backend
        For Keras files that do not say them; see `intsnn.models.keras.load.load`.
    trust : bool
        Read in this process instead of a limited child process.

    Raises
    ------
    ImportRefused, DataNotFoundError, UnsupportedError
        In one sentence: what was found, where, and what would be right.
    """
    path = zoo.find(path_of(path))  # type: ignore[assignment]
    architecture = None if architecture is None else path_of(architecture, "architecture")
    backend = instance(backend, "backend", str, none=True, needed="the name of a backend")
    trust = flag(trust, "trust")
    try:
        return load_own(path, trust=trust)
    except ImportRefused as error:
        if _is_for_us(path, trust):
            raise error from None
    return keras.load(path, architecture=architecture, backend=backend, trust=trust)


def _is_for_us(path: str | Path, trust: bool) -> bool:
    """Whether a file that was refused is for no importer: it claims to be ours, or no HDF5 can be read from it."""
    try:
        # an importer skips what it does not need; of a file that may be foreign no more than one attribute is looked at
        return is_ours(read_tree(path, trust=trust, skip=SKIPPED, attributes=("format",)))
    except ImportRefused as error:
        return error.code != "zip"  # a .keras archive
