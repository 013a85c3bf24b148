"""``intsnn zoo``: the networks that come with the project."""

from __future__ import annotations

import click

from ..common import check_output, finish, json_option

__all__ = ["command"]


@click.command("zoo")
@json_option
def command(json_path: str | None) -> None:
    """Show the trained networks that come with intsnn.

    Example: intsnn run zoo:NAME --data DATA
    """
    from ...models.zoo import catalogue as zoo
    from ..console import Console, percent

    check_output(json_path)
    cards = zoo.cards()
    console = Console(json_path)
    columns = (
        "network", "data", "weights", "activations", "method", "float", "integer ANN", "spikes, T", "settled",
        "T", "extra steps", "mismatches", "weight bytes", "ratio",
    )  # fmt: skip
    rows = [
        (
            f"{zoo.PREFIX}{card.name}", card.data, _bits(card), f"{card.activation_bits} bit", card.method,
            *(percent(a) if a is not None else "" for a in (card.float_accuracy, card.ann_accuracy)),
            percent(card.accuracy_drive), percent(card.accuracy),
            card.t_drive, card.extra_steps, card.mismatches, card.memory["weight_bytes"],
            f"{card.memory['float_bytes'] / card.memory['weight_bytes']:.1f}x",
        )
        for card in cards
    ]  # fmt: skip
    console.table("Trained networks (all test samples; ratio: float32 to packed weights)", columns, rows)
    finish(console, {"networks": [card.values() for card in cards]})


def _bits(card) -> str:
    ends = f" ({card.end_bits})" if card.end_bits != card.weight_bits else ""
    return f"{card.weight_bits} bit{ends}"
