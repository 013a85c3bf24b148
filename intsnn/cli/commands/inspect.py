"""``intsnn inspect``: what is in a file?"""

from __future__ import annotations

import os

import click

from ..common import (
    REFUSED,
    check_output,
    file_of,
    finish,
    input_shape_option,
    json_option,
    network_or_learned,
    of_ours,
    one_line,
    trust_option,
)

__all__ = ["command"]

COLUMNS = {
    "layer": "name", "kind": "kind", "shape": "shape", "what": "detail", "format": "format", "values": "weight",
    "scale": "scale", "times": "multiplier", "bias": "bias", "threshold": "threshold", "levels": "levels",
    "sum bits": "sum_bits", "state bits": "state_bits", "bytes": "bytes",
}  # fmt: skip


@click.command("inspect")
@click.argument("file")
@click.option("--architecture", metavar="FILE.json", help="For weights only; default: FILE with the ending .json.")
@click.option("--backend", type=click.Choice(["theano", "tensorflow"]), help="Where FILE does not say.")
@input_shape_option
@click.option("--check", is_flag=True, help="List every reason why FILE would not convert, and exit with 3 if any.")
@trust_option
@json_option
def command(file: str, check: bool, trust: bool, json_path: str | None, **options) -> None:
    """Show the layers, widths and bytes of FILE.

    FILE is a network, quantised or float ANN of intsnn, what intsnn train learned with integers, or a trained network
    of Keras or ONNX.
    """
    if check:
        _check(file, trust, json_path, options)
        return
    _describe(file, trust, json_path, options)


def _check(file: str, trust: bool, json_path: str | None, options: dict) -> None:
    """All that stands in the way of a conversion."""
    from ...models.readers import reasons
    from ..console import Console

    check_output(json_path, file)
    file_of(file)
    found = reasons(file, trust=trust, **options)
    console = Console(json_path)
    for layer, reason in found:
        named = not layer or repr(layer) in reason
        console.line(one_line(f"- {reason}" if named else f"- layer {layer!r}: {reason}"))
    plural = "" if len(found) == 1 else "s"
    console.line(f"{file}: {f'{len(found)} reason{plural} not to convert' if found else 'converts'}")
    values = {"file": file, "converts": not found, "reasons": [{"layer": a, "reason": b} for a, b in found]}
    finish(console, values, REFUSED if found else 0)


def _describe(file: str, trust: bool, json_path: str | None, options: dict) -> None:
    """Layers, widths and bytes."""
    from dataclasses import asdict

    from ...analysis.description import describe, span_text
    from ...files.network_file import network_digest, read_info
    from ..console import Console, number, size

    check_output(json_path, file)
    network, learned = network_or_learned(file, trust, **options)
    found = describe(network) if learned is None else learned.describe()
    own = learned is None and (found.kind != "float" or of_ours(file_of(file), trust))
    provenance = read_info(file_of(file), trust=trust).provenance if own else {}
    console = Console(json_path)
    console.line(f"{file}: {found.title}, {size(os.path.getsize(file_of(file)))}")
    for name, value in found.facts.items():
        if value not in (None, "", [], False):
            console.line(f"{name.replace('_', ' '):<15}{_plain(value)}")
    for name, value in provenance.items():
        if name not in found.facts and name != "stages" and value not in (None, "", {}):
            console.line(f"{name.replace('_', ' '):<15}{_plain(value)}")
    rows = [
        tuple(
            "x".join(map(str, row[key])) if key == "shape"
            else span_text(row[key]) if isinstance(row.get(key), dict)
            else row.get(key)
            for key in COLUMNS.values()
        )
        for row in found.layers
    ]  # fmt: skip
    totals = found.totals
    console.table("Layers", tuple(COLUMNS), rows)
    console.line()
    console.line(
        f"{number(totals['parameters'])} weights and biases; weights {size(totals['weight_bytes'])}"
        f"{'' if found.kind == 'float' else ' packed'}, all arrays {size(totals['bytes'])}"
    )
    if "neurons" in totals:
        console.line(f"{number(totals['neurons'])} neurons; membranes {size(totals['membrane_bytes'])} a sample")
    values = {"file": file, "file_bytes": os.path.getsize(file_of(file)), **asdict(found), "provenance": provenance}
    if own:
        values["network_sha256"] = network_digest(network)
        console.line(f"network {values['network_sha256']}")
    finish(console, values)


def _plain(value) -> str:
    """A fact on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item not in (None, False))
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return one_line(value)
