"""Events as the input of a network that says in its metadata how they are binned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ConversionError, FormatError
from ..network.spiking import Network
from .events import load_events
from .framing import frame_set

__all__ = ["EventInputs", "event_inputs"]

FIELDS = ("steps", "bin_us", "divide", "start_us", "clip")


@dataclass(frozen=True, eq=False)
class EventInputs:
    """Frames for `intsnn.simulate` with their labels; named as the fields of `intsnn.datasets.Dataset`.

    Attributes
    ----------
    name : str
    images : (T, N, C, H, W) uint8
        A frame a step.
    labels : (N,) int64
    classes : tuple of str
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def event_inputs(network: Network, spec: str) -> EventInputs:
    """The event data that `spec` names, binned as ``metadata["events"]`` of the network says.

    Raises
    ------
    ConversionError
        If the network does not say how, or not by whole numbers, or its input is of another size.
    """
    events = network.metadata.get("events")
    if not isinstance(events, Mapping) or any(field not in events for field in FIELDS):
        raise ConversionError(
            f"data {spec}: the network does not say how events become frames; its metadata need an entry 'events' with "
            f"the whole numbers {', '.join(FIELDS)} (start_us None: from the first event on)"
        )
    found = load_events(spec)
    try:
        frames = frame_set(found, **{field: events[field] for field in FIELDS})
    except FormatError as error:
        raise ConversionError(f"data {spec}: the entry 'events' in the metadata of the network: {error}") from None
    shape = network.shapes[network.input_name]
    if frames.shape[2:] != shape:
        raise ConversionError(f"data {found.name}: its frames are {frames.shape[2:]}, the network takes {shape}")
    return EventInputs(found.name, frames.swapaxes(0, 1), found.labels, tuple(found.classes))
