"""Short words for writing vector code in LLVM's language, and the decorator that makes an intrinsic of it."""

import inspect

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic
from .tier import tier

__all__ = ["BIT", "BYTE", "INT16", "INT32", "INT64", "Emit", "emitted", "vector"]

BIT, BYTE, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))


def vector(lanes: int, element: ir.IntType) -> ir.VectorType:
    """Type of `lanes` integers."""
    return ir.VectorType(element, lanes)


class Emit:
    """The arguments of an intrinsic by name, and the instructions that are written for them.

    The fields of a named tuple are arguments as well: ``tuple.field``.
    """

    def __init__(self, context, builder, kinds: dict, values: dict) -> None:
        self.context, self.builder, self.kinds, self.values = context, builder, dict(kinds), dict(values)
        for name, kind in kinds.items():
            if isinstance(kind, types.NamedTuple | types.NamedUniTuple):
                for at, (field, part) in enumerate(zip(kind.fields, kind.types, strict=True)):
                    self.kinds[f"{name}.{field}"] = part
                    self.values[f"{name}.{field}"] = builder.extract_value(values[name], at)

    def whole(self, name: str):
        """A scalar argument as int64."""
        return self.context.cast(self.builder, self.values[name], self.kinds[name], types.int64)

    def number(self, value: int):
        """Constant int64."""
        return ir.Constant(INT64, value)

    def sum(self, *terms):
        """Sum of int64 values and Python integers."""
        total = None
        for term in terms:
            term = self.number(term) if isinstance(term, int) else term
            total = term if total is None else self.builder.add(total, term)
        return total

    def times(self, a, b):
        """Product of int64 values and Python integers."""
        return self.builder.mul(*(self.number(x) if isinstance(x, int) else x for x in (a, b)))

    def element(self, name: str) -> ir.IntType:
        """Type of the elements of an array."""
        return ir.IntType(self.kinds[name].dtype.bitwidth)

    def pointer(self, name: str, index):
        """Address of element `index` (int64) of a flat array."""
        data = self.context.make_array(self.kinds[name])(self.context, self.builder, self.values[name]).data
        return self.builder.gep(data, [index])

    def shift(self, pointer, by):
        """`pointer` moved by elements of its own type."""
        return self.builder.gep(pointer, [self.number(by) if isinstance(by, int) else by])

    def read(self, pointer, kind):
        """A scalar or vector at an address that is aligned to the elements."""
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        return self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()), align=max(1, element.width // 8))

    def write(self, value, pointer) -> None:
        """Store a scalar or vector."""
        element = value.type.element if isinstance(value.type, ir.VectorType) else value.type
        self.builder.store(
            value, self.builder.bitcast(pointer, value.type.as_pointer()), align=max(1, element.width // 8)
        )

    def zeros(self, kind):
        """A scalar or vector of zeros."""
        return ir.Constant(kind, [0] * kind.count if isinstance(kind, ir.VectorType) else 0)

    def constant(self, kind: ir.VectorType, values):
        """A vector of given lanes (one value: in all of them)."""
        return ir.Constant(kind, [values] * kind.count if isinstance(values, int) else list(values))

    def splat(self, value, lanes: int):
        """A vector with `value` in every lane."""
        kind = vector(lanes, value.type)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), self.constant(vector(lanes, INT32), 0))

    def opaque(self, value):
        """The same vector; with 512-bit registers LLVM does not see that all its lanes are equal.

        A shift by such a vector is one instruction of the processor, one by a number that all lanes share is two.
        """
        if tier() not in ("avx512", "vnni"):
            return value
        kind = value.type
        return self.builder.asm(ir.FunctionType(kind, [kind]), "", "=v,0", [value], False)

    def cell(self, value):
        """A variable: LLVM keeps it in a register."""
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return place

    def get(self, cell):
        """Value of a variable."""
        return self.builder.load(cell)

    def put(self, value, cell) -> None:
        """Change a variable."""
        self.builder.store(value, cell)

    def loop(self, begin, end, step: int = 1):
        """``with loop(a, b) as i:`` for i from a to b (int64)."""
        return _Loop(self.builder, begin, end, step)

    def prefetch(self, pointer, write: bool = False) -> None:
        """Ask for the cache line at `pointer`, to be read or to be written as well; it need not exist."""
        way, near, data = (ir.Constant(INT32, i) for i in (int(write), 3, 1))
        place = self.builder.bitcast(pointer, BYTE.as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), place, way, near, data)

    def call(self, name: str, result, *arguments):
        """An LLVM intrinsic by its full name."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)


class _Loop:
    def __init__(self, builder, begin, end, step) -> None:
        begin, end, step = (ir.Constant(INT64, x) if isinstance(x, int) else x for x in (begin, end, step))
        self.inner = cgutils.for_range_slice(builder, begin, end, step, intp=INT64)

    def __enter__(self):
        return self.inner.__enter__()[0]

    def __exit__(self, *error):
        return self.inner.__exit__(*error)


def emitted(names: str, body, result=types.void):
    """The intrinsic with arguments `names` whose code ``body(emit)`` writes; it has to become a module global."""
    words = names.split()

    def typing(typing_context, *kinds):
        def codegen(context, builder, signature, arguments):
            value = body(
                Emit(context, builder, dict(zip(words, kinds, strict=True)), dict(zip(words, arguments, strict=True)))
            )
            return context.get_dummy_value() if value is None else value

        return (result(*kinds), codegen) if len(kinds) == len(words) else None

    typing.__name__ = body.__name__
    named = [inspect.Parameter(word, inspect.Parameter.POSITIONAL_OR_KEYWORD) for word in ["typing_context", *words]]
    # Numba takes `*kinds` for one tuple; typeshed's functions have no __signature__, which inspect looks for
    typing.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    return intrinsic(typing)
