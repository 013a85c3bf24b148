"""What the compiler made of a kernel: types, LLVM code and machine code, also where the kernel came from the cache.

What is kept on disk holds the text of the types and the optimised LLVM code beside the machine code: nothing has to be
compiled anew to be looked at.
"""

import itertools


def forms(dispatcher):
    """Signature, text with the type of every variable, and LLVM module of each compiled form of a function.

    Those that this process has; if it has none (the callers came from the cache, with all that they call), those that
    are kept on disk.
    """
    if not dispatcher.overloads:
        take_kept(dispatcher)
    for signature, compiled in dispatcher.overloads.items():
        yield signature, str(compiled.type_annotation), compiled.library._get_module_for_linking()


def take_kept(dispatcher):
    """Load every form of a function that stands in the cache, where there is one."""
    file = getattr(dispatcher._cache, "_cache_file", None)
    for signature, *_ in file._load_index() if file else ():
        dispatcher.compile(signature)


def types_of(text):
    """The types in the text of a form: (assignment, type) for every variable."""
    lines = (line.strip() for line in text.splitlines())
    typed = (line.rpartition("  :: ") for line in lines if line.startswith("#"))
    return [(what.removeprefix("#").strip(), kind) for what, colons, kind in typed if colons]


def assembly(dispatcher, module):
    """Machine code of an LLVM module, as text."""
    return dispatcher.targetctx.codegen()._tm.emit_assembly(module)


def assembly_of(dispatchers):
    """Machine code of all forms of some functions."""
    every = itertools.chain.from_iterable(((d, module) for _, _, module in forms(d)) for d in dispatchers)
    return "".join(assembly(d, module) for d, module in every)
