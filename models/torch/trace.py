"""How does a PyTorch module in memory become a float network?

Its graph is traced by ``torch.fx``, each call becomes nodes (`calls`, `layers`), and what comes out is compared with
the module itself on random values before it is handed over. A module is a program of its owner: nothing here comes from
a file.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import FormatError, IntsnnError, MismatchError, ShapeError, UnsupportedError
from ...formats.arguments import shown, wholes
from ...network.floating import FloatNetwork, forward
from .calls import called
from .layers import KINDS_OF_LAYERS, becomes, why_not
from .sketch import Signal, Sketch, Spot

__all__ = ["from_torch"]

NEEDED = "(N,), (C, L) or (C, H, W), without the batch, is needed"
TOLERANCE = 1e-3  # of the largest value: float32 in another order, and far below what any mistake costs


def from_torch(module: Any, input_shape: Sequence[int]) -> FloatNetwork:
    """The float network that a trained PyTorch module computes in evaluation mode.

    The module itself is not changed. Its graph is followed by ``torch.fx``, so that its `forward` may not branch on the
    values of tensors. Both are then run on random values and compared.

    Parameters
    ----------
    module : torch.nn.Module
        Of one tensor and one result: connections, batch normalisation, activations that are piecewise linear, pools,
        sums and concatenations of branches, and any moves of values within a sample. Parameters of float32 and float64
        are kept as they are, others are made float32.
    input_shape : sequence of int
        Of one sample: ``(C, H, W)``, ``(C, L)`` or ``(N,)``.

    Returns
    -------
    FloatNetwork
        Nodes have the names of the modules (``"features.0"``). ``(C, L)`` are maps of one row. ``metadata`` has
        ``format`` ("pytorch"), ``source`` (name of the class), ``torch_version`` and perhaps ``notes``.

    Raises
    ------
    UnsupportedError
        If torch is not installed, a layer or an option has no counterpart here (it is named, with the reason), or the
        control flow depends on the data.
    ShapeError
        If the module does not take such an input.
    FormatError
        If `module` is none, or a parameter is not finite.
    MismatchError
        If the network does not compute what the module does, by a hook or an operation of its own for example.
    """
    shape = _shape(input_shape)
    try:
        import torch
    except ImportError:
        raise UnsupportedError(
            f"module: found {shown(module)}; to read a PyTorch module torch has to be installed (pip install "
            "'intsnn[torch]')"
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise FormatError(f"module: found {shown(module)}; a torch.nn.Module is needed")
    what = type(module).__name__
    try:
        own = copy.deepcopy(module).cpu().eval()
    except Exception as error:  # whatever a class of the user does when it is copied
        raise UnsupportedError(f"module: a {what} cannot be copied ({_first_line(error)})") from None
    if any(kind not in (torch.float32, torch.float64) for kind in _float_types(own)):
        own = own.float()
    x, expected = _run(torch, own, what, shape)
    network = _follow(torch, own, what, shape)
    _compare(network, x, expected, what)
    return network


def _shape(value: Any) -> tuple[int, ...]:
    shape = wholes(value, "input_shape", 1, 1 << 24, error=ShapeError, needed=NEEDED)
    if not 1 <= len(shape) <= 3:
        raise ShapeError(f"input_shape: found {shown(value)}; {NEEDED}")
    return shape


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _float_types(module: Any) -> list[Any]:
    return [held.dtype for held in (*module.parameters(), *module.buffers()) if held.is_floating_point()]


def _run(torch: Any, module: Any, what: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random values of two samples, and what the module makes of them."""
    kind = next(iter(_float_types(module)), torch.float32)
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0), dtype=kind)
    try:
        with torch.no_grad():
            y = module(x.clone())
    except Exception as error:  # whatever the module raises
        found = f"(2, {', '.join(map(str, shape))})"
        raise ShapeError(f"input_shape: a {what} does not take an input {found} ({_first_line(error)})") from None
    if not isinstance(y, torch.Tensor):
        raise UnsupportedError(f"module: a {what} returns a {type(y).__name__}; one tensor is taken")
    if y.shape[:1] != (2,) or not y.is_floating_point():
        raise UnsupportedError(f"module: a {what} makes {tuple(y.shape)} of 2 samples; a row for each is needed")
    return x.numpy(), y.numpy()


def _compare(network: FloatNetwork, x: np.ndarray, expected: np.ndarray, what: str) -> None:
    found = forward(network, x, dtype=x.dtype).reshape(expected.shape)
    if any("kept as softmax" in note for note in network.metadata.get("notes", ())):
        expected = np.exp(expected)
    worst, most = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not worst <= TOLERANCE * max(most, 1e-6):
        raise MismatchError(
            f"module: what was read of a {what} gives other values (by {worst:.3g}, values are up to {most:.3g}): a "
            "hook, or an operation in place such as y += 1 (write y = y + 1), does what its graph does not show"
        )


def _follow(torch: Any, module: Any, what: str, shape: tuple[int, ...]) -> FloatNetwork:
    """The network of the traced graph."""
    alone = type(module).__module__.startswith("torch.nn.") and not isinstance(module, torch.nn.Sequential)
    if alone:  # tracing would go into the layer
        module = torch.nn.Sequential(OrderedDict({what.lower(): module}))
    try:
        traced = torch.fx.symbolic_trace(module, concrete_args=_fixed(module, what))
    except IntsnnError:
        raise
    except Exception as error:  # fx raises errors of many classes, and the module its own
        raise UnsupportedError(
            f"module: the graph of a {what} cannot be followed ({_first_line(error)}); its control flow must not "
            "depend on the values of tensors: write it without if and for over them, or hand in the part without"
        ) from None
    reader, result = _Reader(torch, traced), None
    for node in traced.graph.nodes:
        if node.op == "output":
            result = reader.value(node.args[0])
        elif node.op == "placeholder":
            # the others keep their defaults
            reader.env[node.name] = None if reader.sketch.nodes else reader.sketch.begin(shape, node.name)
        else:
            reader.step(node)
    metadata = {"format": "pytorch", "source": what, "torch_version": str(torch.__version__)}
    if isinstance(result, list | tuple) and len(result) == 1:
        result = result[0]
    return reader.sketch.finish(result, metadata)


def _fixed(module: Any, what: str) -> dict[str, Any]:
    """Defaults of all parameters of `forward` but the first."""
    parameters = [
        p for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    if more := [p.name for p in parameters[1:] if p.default is p.empty]:
        raise UnsupportedError(f"module: a {what} takes {', '.join(more)} as well; one tensor is taken")
    return {p.name: p.default for p in parameters[1:]}


class _Gone:
    """A tensor whose memory was changed through another one."""


class _Reader:
    """Values of the graph so far, by the names of its nodes."""

    def __init__(self, torch: Any, traced: Any) -> None:
        self.torch, self.traced, self.sketch = torch, traced, Sketch()
        self.env: dict[str, Any] = {}

    def value(self, argument: Any) -> Any:
        """An argument of a call with the values of the nodes in it."""
        if isinstance(argument, self.torch.fx.Node):
            found = self.env[argument.name]
            if isinstance(found, _Gone):
                raise UnsupportedError(
                    f"layer {argument.name!r}: its values were changed in place through a view; write the operation "
                    "without inplace"
                )
            return found
        if isinstance(argument, list | tuple):
            return (tuple if isinstance(argument, tuple) else list)(self.value(item) for item in argument)
        if isinstance(argument, dict):
            return {name: self.value(item) for name, item in argument.items()}
        if isinstance(argument, slice):
            return slice(self.value(argument.start), self.value(argument.stop), self.value(argument.step))
        return self._array(argument) if isinstance(argument, self.torch.Tensor) else argument

    def _array(self, tensor: Any) -> np.ndarray:
        tensor = tensor.detach().cpu()
        if tensor.dtype in (self.torch.float16, self.torch.bfloat16):
            tensor = tensor.float()
        if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
            raise UnsupportedError("a parameter is sparse, quantised or complex; floats are taken")
        return tensor.numpy().copy()

    def step(self, node: Any) -> None:
        """Take one node of the graph."""
        if node.op == "get_attr":
            found = self.traced
            for part in node.target.split("."):
                found = getattr(found, part)
            self.env[node.name] = self._array(found) if isinstance(found, self.torch.Tensor) else found
            return
        args, options = self.value(node.args), self.value(node.kwargs)
        if node.op == "call_module":
            module = self.traced.get_submodule(node.target)
            found = self._module(node, module, args, options)
            changes = getattr(module, "inplace", False) is True
        else:
            name = node.target if node.op == "call_method" else self._function(node)
            at = Spot(node.name, name)
            changes = options.get("inplace") is True or (name.endswith("_") and not name.startswith("_"))
            changes |= name in ("iadd", "isub", "imul", "itruediv")
            found = called(self.sketch, at, tuple(args), dict(options))
        if changes and node.args and isinstance(node.args[0], self.torch.fx.Node):
            self._in_place(self.env[node.args[0].name], found)
        self.env[node.name] = found

    def _in_place(self, old: Any, new: Any) -> None:
        """The memory of `old` holds `new` now: by every name, and views of it are something else."""
        if not isinstance(old, Signal) or not isinstance(new, Signal) or new is old:
            return
        for name, value in self.env.items():
            if value is old:
                self.env[name] = new
            elif isinstance(value, Signal) and value.storage is old.storage:
                self.env[name] = _Gone()

    def _function(self, node: Any) -> str:
        name, home = getattr(node.target, "__name__", ""), getattr(node.target, "__module__", "") or ""
        known = home.split(".")[0] in ("torch", "_operator", "operator", "builtins", "")
        if not known or not name:
            raise UnsupportedError(f"layer {node.name!r}: the function {shown(node.target)} is none of PyTorch")
        return {"concat": "cat"}.get(name, name)

    def _module(self, node: Any, module: Any, args: Any, options: dict[str, Any]) -> Signal:
        kind = type(module).__name__
        if self.torch.nn.utils.parametrize.is_parametrized(module):
            kind = type(module).__mro__[1].__name__  # the class that it was before
        known, at = KINDS_OF_LAYERS.get(kind), Spot(node.target, kind)
        if known is None or not type(module).__module__.startswith("torch.nn"):
            raise at.unsupported(why_not(kind))
        values = (*args, *options.values())
        if len(values) != 1:
            raise at.unsupported(f"it is called with {len(values)} values; one tensor is taken")
        settings = {name: self._option(getattr(module, name, None)) for name in known.options}
        arrays = {name: getattr(module, name, None) for name in known.arrays}
        held = {name: self._array(value) for name, value in arrays.items() if value is not None}
        return becomes(self.sketch, replace(at, options=settings, arrays=held), values[0])

    @staticmethod
    def _option(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value
