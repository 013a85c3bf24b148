"""What to do with a file of PyTorch that is not read: pickles are programs, and are never loaded here."""

from __future__ import annotations

import os

from ...errors import ImportRefused

__all__ = ["RECIPE", "pickle_refusal", "state_dict_advice", "torch_archive"]

RECIPE = 'import intsnn; net = intsnn.from_torch(module, (3, 32, 32)); intsnn.save(net, "net.h5")'
PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def torch_archive(label: str) -> ImportRefused:
    """The refusal, with code ``zip``, of what ``torch.save`` wrote to the file called `label`."""
    return ImportRefused(
        f"{label}: is a PyTorch file (pickled, never loaded here); where the module can be made, save it with {RECIPE}",
        code="zip",
    )


def pickle_refusal(path: str | os.PathLike[str]) -> ImportRefused | None:
    """The refusal of a file that holds a bare pickle, as ``torch.save`` wrote it before 1.6; None for any other."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return torch_archive(os.fspath(path)) if file.read(2) in PICKLES else None
    except OSError:
        return None  # whoever reads the file says what is wrong


def state_dict_advice() -> str:
    """Half a sentence for what may be a state dict without a description of its layers."""
    return (
        "of a PyTorch state dict give the architecture, intsnn.models.torch.load_state(path, architecture), or save "
        f"the module instead: {RECIPE}"
    )
