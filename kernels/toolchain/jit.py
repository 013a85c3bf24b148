"""The only file that configures Numba: one decorator, one cache folder for the tier that is in use."""

from types import FunctionType
from typing import Any, Literal

import numba
from numba.extending import intrinsic, typeof_impl

from ..parameters import NeuronParameters, Window
from . import cache
from .once import compile_once
from .tier import tier

__all__ = ["cache_folder", "intrinsic", "kernel", "like", "settings", "variant"]

cache_folder = cache.folder(tier())
settings: Any = numba.config  # they come into being at run time: no type checker sees one


def kernel(function=None, *, inline: Literal["never", "always"] = "never"):
    """Compile `function` on first use: no Python objects, no GIL, no fast-math.

    ``inline="always"`` pastes it into its callers: for what is called in inner loops with many arrays.
    """
    if function is None:
        return lambda function: kernel(function, inline=inline)
    before = settings.CACHE_DIR
    settings.CACHE_DIR = cache_folder or ""  # read once, while decorating; then given back
    try:
        options: Any = {"nogil": True, "error_model": "numpy", "inline": inline, "no_cfunc_wrapper": True}
        made = numba.njit(cache=cache_folder is not None, **options)(function)
    finally:
        settings.CACHE_DIR = before
    if not settings.DISABLE_JIT:
        compile_once(made, cache_folder)
    return made


def variant(function, name: str, **names):
    """`function` as the kernel `name` (its code is kept on disk under that), in which the globals `names` are others.

    A closure would be compiled anew in every process: an intrinsic in it is never the same twice.
    """
    copy = FunctionType(function.__code__, function.__globals__ | names, name)
    copy.__qualname__ = name
    return kernel(copy)


def plain_integers(kind: type[NeuronParameters] | type[Window]) -> None:
    """Tell Numba that every field of the named tuple `kind` is an int64: it would look at each in every call."""
    found = numba.types.NamedUniTuple(numba.types.int64, len(kind._fields), kind)
    typeof_impl.register(kind)(lambda value, context: found)


plain_integers(NeuronParameters)
plain_integers(Window)

if settings.DISABLE_JIT:

    def like(reference, value):
        """`value` as an integer of the type of `reference`."""
        return type(reference)(value)

else:

    @intrinsic
    def like(typing_context, reference, value):
        """`value` as an integer of the type of `reference` (stops promotion to int64)."""
        if not isinstance(reference, numba.types.Integer):
            return None

        def codegen(context, builder, signature, arguments):
            return context.cast(builder, arguments[1], signature.args[1], signature.args[0])

        return reference(reference, value), codegen
