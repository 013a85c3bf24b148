"""What does a speed comparison say, as tables for people?"""

from __future__ import annotations

from typing import Any

from .console import Console

__all__ = ["show_speed"]


def _bytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.1f} MB"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _row(row: dict[str, Any]) -> tuple:
    low, high = row["spread"]
    same = {True: "equal", False: "DIFFERENT", None: "another function"}[row["equal"]]
    return (
        row["workload"], row["peer"], row["kind"], _times(row["ratio"]), f"{_times(low)} to {_times(high)}",
        _milliseconds(row["ours_ms"]), _milliseconds(row["peer_ms"]), same, _bytes(row["memory"]),
    )  # fmt: skip


def _share(speed: float | None, peak: float) -> str | None:
    """What part of what one core can do."""
    return f"{100 * speed / peak:.0f} %" if speed and peak else None


def _peer(row: dict[str, Any]) -> str:
    return f"{row['peer']} {_milliseconds(row['peer_ms'])} ({_times(row['ratio'])} x)"


def show_speed(console: Console, result: dict[str, Any]) -> None:
    """Tables of what `bench.speed.run` found."""
    here, settings = result["machine"], result["settings"]
    console.line(
        f"{here['processor']} ({', '.join(here['flags']) or 'no vector flags known'}), {here['cores']} cores; threads: "
        f"{settings['threads']}; interleaved rounds: {settings['rounds']}; kernels: {here['kernels']}"
    )
    peaks = here["peaks"]
    read = ", ".join(f"{size} {speed / 1e9:.0f}" for size, speed in peaks["read"].items())
    console.line(
        f"one core here: {peaks['products'] / 1e9:.0f} G products/s, {peaks['additions'] / 1e9:.0f} G additions/s by "
        f"lists; reads GB/s from {read}"
    )
    for name, reason in result["absent"].items():
        console.line(f"absent: {name} ({reason})")
    rows: list[tuple] = []
    for found in result["workloads"]:
        rates = found["rates"].values()
        synops, speed = found["synops_per_sample"], found["synops_per_second"]
        rows.append(
            (
                found["workload"], found["samples"], found["steps"],
                f"{100 * min(rates):.1f} to {100 * max(rates):.1f} %" if rates else None,
                f"{synops / 1e6:.2f} M" if synops else None, _milliseconds(found["ours_ms"]),
                f"{speed / 1e9:.1f} G/s" if speed else None, _share(speed, peaks["additions"]),
                _share(found["products_per_second"], peaks["products"]), _bytes(found["weights"]),
                _bytes(found["buffer_bytes"]), _bytes(found["memory"]),
            )
        )  # fmt: skip
        if found["not_fused"]:
            console.line(f"{found['workload']}: timed through simulate ({found['not_fused']})")
        if found["precision"] != "float32":
            console.line(f"{found['workload']}: its sums pass 2**24, so the SNN peers compute in {found['precision']}")
        for peer, reason in found["unsupported"].items():
            console.line(f"{found['workload']}: {peer} was left out ({reason})")
    columns: tuple[str, ...] = (
        "workload", "samples", "steps", "spike rates", "synops a sample", "ms a call", "synops", "of additions",
        "count: of products",
        "weights, int8", "buffers", "memory grew",
    )  # fmt: skip
    console.table("intsnn", columns, rows)
    if result["rows"]:
        columns = ("workload", "peer", "kind", "ratio", "over rounds", "our ms", "peer ms", "outputs", "memory grew")
        console.table("Time of the peer / our time", columns, [_row(row) for row in result["rows"]])
    gains = [(found["workload"], found["speedup"]) for found in result["workloads"] if "speedup" in found]
    if gains:
        rows = [
            (name, g["threads"], _times(g["ratio"]), _milliseconds(g["one_thread_ms"]), _milliseconds(g["ms"]))
            for name, g in gains
        ]
        console.table("Threads against one", ("workload", "threads", "times faster", "one thread, ms", "ms"), rows)
    if result["scaling"]:
        rows = [
            (p["axis"], p["workload"], str(p["value"]), _milliseconds(p["ours_ms"]), "; ".join(map(_peer, p["rows"])))
            for p in result["scaling"]
        ]
        console.table("How cost grows", ("axis", "workload", "value", "our ms", "peers, ms"), rows)
