"""``intsnn memory``: what a network takes, by formula and measured."""

from __future__ import annotations

import os

import click

from ..common import (
    DATA_HELP,
    USAGE,
    Failure,
    check_output,
    cores,
    file_of,
    finish,
    json_option,
    network_or_learned,
    only_integers,
    options_checked,
    read_data,
    threads_option,
    trust_option,
)

__all__ = ["command"]

ITEMS = (
    "layer", "kind", "name", "count", "width", "formula bits", "FP32 bits", "measured bytes", "loaded bytes",
    "measured count",
)  # fmt: skip


@click.command("memory")
@click.argument("network")
@click.option("--convention", metavar="NAME", help="Of a formula; a wrong name shows which there are.")
@click.option(
    "--width", "widths", multiple=True, metavar="NAME=BITS", help="Of W Q P R S U A Sig E G in a published formula."
)
@click.option("--data", metavar="DATA", help=f"Run on these: observed widths, peak memory. {DATA_HELP}")
@trust_option
@threads_option
@json_option
def command(
    network: str, convention: str | None, widths: tuple[str, ...], data: str | None, trust: bool, threads: int | None,
    json_path: str | None,
) -> None:  # fmt: skip
    """Count and measure the memory of NETWORK.

    NETWORK is a spiking network of intsnn, what intsnn train learned with integers, or the name of a published
    architecture (decolle-dvsgesture, vgg11-binary), whose arrays are then made of random numbers.

    Example: intsnn memory net.h5 --data digits --json memory.json
    """
    from ...models.published import ARCHITECTURES
    from ..console import Console

    check_output(json_path, network)
    bits = _widths(widths)
    console = Console(json_path)
    if network in ARCHITECTURES:
        if data is not None:
            raise Failure(f"--data: {network} is an architecture without weights and cannot be run", USAGE)
        values = _architecture(console, network, convention, bits)
    else:
        if not os.path.exists(file_of(network)):
            names = ", ".join(ARCHITECTURES)
            raise Failure(f"{network}: no such file, and no named architecture ({names})", 3)
        values = _network(console, network, convention, bits, data, trust, threads or cores())
    finish(console, values)


def _widths(given: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in given:
        name, equals, bits = text.partition("=")
        if not equals or not bits.strip().isdecimal():
            raise Failure(f"--width: found {text!r}; give NAME=BITS, such as W=4", USAGE)
        found[name.strip()] = int(bits)
    return found


def _architecture(console, name: str, convention: str | None, bits: dict[str, int]) -> dict:
    from ...analysis.memory.report import allocated
    from ...models.published import architecture

    found = architecture(name)
    with options_checked():
        counted = allocated(found, bits, convention)
    console.line(f"{name}: {found.source}")
    _show(console, counted)
    return {"network": name, "source": found.source, **counted.as_json()}


def _network(
    console, path: str, convention: str | None, bits: dict[str, int], data: str | None, trust: bool, threads: int
) -> dict:
    from ...analysis.memory.report import memory
    from ...conversion.pipeline import check_fit
    from ...engine.simulation import simulate
    from ...files.network_file import read_info

    network, learned = network_or_learned(path, trust)
    if learned is not None:
        return _learned(console, path, learned, convention, bits, data)
    network = only_integers(network, path)
    dataset = result = None
    settle = network.levels is not None
    if data is not None:
        dataset = read_data(data)
        check_fit(network, dataset)
        with console.progress("simulate") as progress:
            result = simulate(network, dataset.images, settle=settle, threads=threads, progress=progress)
    with options_checked():
        counted = memory(
            network,
            convention or "declared",
            widths=bits,
            result=result,
            provenance=read_info(file_of(path), trust=trust).provenance,
        )
    console.line(f"{path}: {os.path.getsize(file_of(path)):,} bytes")
    _show(console, counted)
    _show_accumulators(console, counted)
    _show_file(console, counted)
    values = {"network": path, "file_bytes": os.path.getsize(file_of(path)), **counted.as_json()}
    if dataset is not None:  # the fast path takes a while to compile
        values |= {"data": dataset.name, "runner_buffers": _buffers(console, network)}
        values["peak"] = _peak(console, network, dataset, settle, threads)
    return values


def _learned(console, path: str, learned, convention: str | None, bits: dict[str, int], data: str | None) -> dict:
    """What learning with one sample takes."""
    if bits or data is not None:
        option = "--width" if bits else "--data"
        raise Failure(f"{option}: {path} was learned with integers and declares its own; give neither", USAGE)
    with options_checked():
        counted = learned.memory(convention)
    console.line(f"{path}: {os.path.getsize(path):,} bytes; what learning with one sample takes")
    _show(console, counted)
    return {"network": path, "file_bytes": os.path.getsize(path), **counted.as_json()}


def _buffers(console, network) -> dict[str, int] | None:
    from ...analysis.memory.measured import runner_bytes
    from ...errors import UnsupportedError

    try:
        found = runner_bytes(network)
    except UnsupportedError as error:
        console.line(f"\nno buffers of the fast path: {error}")
        return None
    console.table("Buffers of the fast path, one thread", ("buffer", "bytes"), found.items())
    return found


def _peak(console, network, dataset, settle: bool, threads: int) -> dict | None:
    from ...analysis.memory.process import peak_memory
    from ...errors import UnsupportedError

    try:
        peak = peak_memory(network, dataset.images, settle=settle, threads=threads)
    except UnsupportedError as error:
        console.line(f"\n{error}")
        return None
    names = {
        "imported_bytes": "Python with intsnn", "ready_bytes": "+ network, data, compiled kernels, one sample run",
        "run_bytes": "+ what the run adds at most", "peak_bytes": "peak",
    }  # fmt: skip
    ran = f"{peak['samples']:,} samples, {peak['threads']} threads"
    title = f"A process that runs {dataset.name}: {ran} ({peak['how']})"
    console.table(title, ("resident memory", "bytes"), [(names[key], peak[key]) for key in names])
    return peak


def _show(console, counted) -> None:
    from ..console import number

    widths = ", ".join(f"{name} {bits}" for name, bits in counted.widths.items() if bits)
    console.line(f"convention {counted.convention}" + (f"; widths {widths}" if widths else ""))
    rows = [
        (
            item.layer, item.kind, item.name, item.count or None, item.width or "not counted",
            item.formula_bits or None, item.fp32_bits or None, item.measured_bytes, item.loaded_bytes,
            item.measured_count,
        )
        for item in counted.items
    ]  # fmt: skip
    console.table("Items", ITEMS, rows)
    for by in ("layer", "kind"):
        rows = [(name, *total.values()) for name, total in counted.totals(by).items()]
        console.table(f"By {by}", (by, "formula bits", "FP32 bits", "measured bytes"), rows)
    console.line()
    console.line(
        f"formula {number(counted.bits)} bits = {counted.bits / 8e6:.6f} MB; FP32 {number(counted.bits_fp32)} bits = "
        f"{counted.bits_fp32 / 8e6:.6f} MB; saving {counted.saving:.3f} %, {counted.ratio:.2f}x"
    )
    if counted.measured_bytes is not None:
        console.line(
            f"measured {number(counted.measured_bytes)} bytes, {number(counted.counted_bytes or 0)} of them in arrays "
            "that the convention counts"
        )
    if counted.loaded_bytes is not None:
        console.line(f"loaded parameters {number(counted.loaded_bytes)} bytes (64 bits a number)")
    if counted.prepared_bytes is not None:
        console.line(f"weights and constants as a run keeps them {number(counted.prepared_bytes)} bytes")


def _show_accumulators(console, counted) -> None:
    rows = [
        (
            entry.layer, entry.v_bits, entry.bound_bits if entry.proven else f"{entry.bound_bits} (not proven)",
            entry.peak_bits, entry.sum_bound_bits, entry.sum_peak_bits, entry.v_min, entry.v_max,
        )
        for entry in counted.accumulators
    ]  # fmt: skip
    columns = ("layer", "declared", "proven", "observed", "sum proven", "sum observed", "least v", "largest v")
    console.table("Accumulators, signed bits", columns, rows)


def _show_file(console, counted) -> None:
    file = counted.file
    rows = [*file.arrays.items(), ("compression", file.compression), ("values of attributes", file.attributes)]
    rows += [("structure of HDF5", file.structure), ("sum: the file", file.total)]
    console.table("Where the bytes of the file are", ("what", "bytes"), rows)
