"""``intsnn bench speed``: against other simulators."""

from __future__ import annotations

import click

from ...common import check_output, finish, json_option, options_checked, writing

__all__ = ["command"]

QUICK_ROUNDS, QUICK_SECONDS = 3, 0.02


@click.command("speed")
@click.option("--workload", "workloads", multiple=True, metavar="NAME", help="More than one is possible; default: all.")
@click.option("--peers", metavar="LIST", help="Names with commas between them, or none; default: all.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=9, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Of all.")
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} short rounds, unless --rounds says otherwise.")
@click.option("--pool", type=click.Choice(["sum", "max"]), default="sum", show_default=True, help="In image networks.")
@click.option("--scaling", is_flag=True, help="Also how cost grows with steps, batch, width and spike density.")
@click.option("--real", is_flag=True, help="Also trained networks, converted; needs INTSNN_DATA.")
@click.option("--plot", "plot_folder", metavar="DIR", help="Write plots here (PNG and SVG; needs matplotlib).")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    workloads: tuple[str, ...],
    peers: str | None,
    rounds: int,
    threads: int,
    quick: bool,
    pool: str,
    scaling: bool,
    real: bool,
    plot_folder: str | None,
    json_path: str | None,
) -> None:
    """Compare the speed with that of other simulators.

    Runs against what is installed of torch, SpikingJelly and snnTorch, and one int8 ANN pass of ONNX Runtime (extra:
    peers). Outputs are compared first; every workload runs in its own process, in interleaved rounds.

    Example: intsnn bench speed --workload mlp-b1 --workload lenet-b64 --json speed.json
    """
    from ....bench.speed import measure as measured
    from ....bench.speed import plots
    from ... import speed_tables as present
    from ...console import Console

    check_output(json_path)
    chosen = None
    if peers is not None:
        chosen = [] if peers.strip() == "none" else [name.strip() for name in peers.split(",") if name.strip()]
    if plot_folder is not None:
        plots.check_plots()
    given = ctx.get_parameter_source("rounds") is click.core.ParameterSource.COMMANDLINE
    console = Console(json_path)
    with options_checked(), console.progress("speed") as progress:
        result = measured.run(
            list(workloads) or None,
            rounds=QUICK_ROUNDS if quick and not given else rounds,
            threads=threads,
            peers=chosen,
            seconds=QUICK_SECONDS if quick else measured.SECONDS,
            scaling=scaling,
            real=real,
            options={"pool": pool},
            progress=progress,
        )
    present.show_speed(console, result)
    if plot_folder is not None:
        with writing(plot_folder):
            for path in plots.plot_speed(result, plot_folder):
                console.line(f"written {path}")
    finish(console, result)
