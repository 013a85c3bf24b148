"""The count path beside one int8 pass of ONNX Runtime: the same network with max-pools and 255 levels.

An int8 pass has 256 levels an activation and max-pools; so has the integer ANN of the workload here. Both read the same
inputs: those of one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...engine.ann import integer_ann, prepare_ann
from ...errors import MismatchError
from ...network.spiking import Network
from .evaluate import apply, as_frames
from .workloads import Workload, build

__all__ = ["LEVELS", "counted", "prepare_count"]

LEVELS = 255  # an activation of 8 bits
SPREAD = 64  # levels of a standard deviation of the sums
CHECKED = 2  # samples that the layers of `simulate` answer as well


def counted(workload: Workload) -> Network:
    """The network of `workload` with max-pools, and neurons whose levels spread over 0 to `LEVELS`."""
    options: dict[str, Any] = {k: v for k, v in workload.settings.items() if k != "pool" and (k != "size" or v)}
    if workload.constant:
        options["pool"] = "max"
    else:
        options.pop("size", None)
    network = build(workload.name, **options).network
    few = workload.inputs[:CHECKED] if workload.constant else workload.inputs[:1, :CHECKED]
    nodes, values = dict(network.nodes), dict[str, np.ndarray]()
    for name in network.order:
        layer = nodes[name]
        sources = [values[source] for source in network.inputs_of(name)]
        if layer.takes_input:
            values[name] = as_frames(few, network.shapes[name])
        elif layer.fires:
            threshold = max(1, round(float(sources[0].std()) / SPREAD))
            nodes[name] = replace(layer, threshold=np.asarray(threshold), max_count=LEVELS)
            values[name] = np.clip(np.floor(sources[0] / np.float32(threshold)), 0, LEVELS)
        elif name != network.output_name:
            values[name] = apply(layer, sources, network.shapes[name], name)
    return Network(nodes, network.edges)


def prepare_count(workload: Workload, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Outputs of the integer ANN of one step of inputs, as `Workload` has them.

    Raises
    ------
    MismatchError
        If the layers of `simulate` answer something else.
    """
    network = counted(workload)
    run = prepare_ann(network, steps=1, threads=threads)

    def call(inputs: np.ndarray) -> np.ndarray:
        return run(inputs if workload.constant else inputs[0]).outputs

    few = workload.inputs[:CHECKED] if workload.constant else workload.inputs[:1, :CHECKED]
    expected = integer_ann(network, few if workload.constant else few[0], steps=1, path="step")
    if not np.array_equal(call(few), expected.outputs):
        raise MismatchError(f"{workload.name}: outputs of the count path differ from those of the layers")
    return call
