"""``intsnn convert``: from a trained network to spikes and integers."""

from __future__ import annotations

import os

import click

from ...errors import ConversionError
from ..common import (
    DATA_HELP,
    LEARN_HELP,
    USAGE,
    Failure,
    check_output,
    cores,
    file_of,
    finish,
    input_shape_option,
    json_option,
    load_network,
    options_checked,
    overlap_option,
    read_data,
    sha256,
    threads_option,
    trust_option,
    writing,
)

__all__ = ["command"]

BITS = click.IntRange(1, 8)
MOST_SHIFT = 12  # as in `NeuronRule`


@click.command("convert")
@click.argument("src")
@click.option("-o", "--output", required=True, metavar="NET.h5", help="Where the integer network goes.")
@click.option("--architecture", metavar="FILE.json", help="For weights only; default: SRC with the ending .json.")
@click.option(
    "--input-scale", metavar="SCALE[,OFFSET]", help="Real input = SCALE * code + OFFSET, e.g. 1/255 or 2/255,-1."
)
@click.option("--backend", type=click.Choice(["theano", "tensorflow"]), help="Where SRC does not say.")
@input_shape_option
@click.option("--method", type=click.Choice(["fast-snn", "qffs", "ca-lif"]), default="fast-snn", show_default=True)
@click.option("--weights", type=BITS, default=8, show_default=True, metavar="BITS", help="Width of the weights.")
@click.option("--activations", type=BITS, default=4, show_default=True, metavar="BITS", help="L = 2^BITS - 1 levels.")
@click.option("--first-last", type=BITS, metavar="BITS", help="Other width for the first and last layer.")
@click.option("--calibrate", metavar="DATA", help=f"Training data for the scales. {LEARN_HELP}")
@click.option("--evaluate", metavar="DATA", help=f"Unseen data for the accuracy of each stage; default: those of "
              f"--calibrate. {DATA_HELP}")  # fmt: skip
@overlap_option
@click.option("--rounding", type=click.Choice(["auto", "nearest", "compensated"]), default="auto", show_default=True,
              help="Of the weights; auto takes what errs less on held-back calibration data.")  # fmt: skip
@click.option("--no-bias-correction", is_flag=True, help="Leave the biases as they are.")
@click.option("--no-cap", is_flag=True, help="Let counts exceed L, as published for Fast-SNN.")
@click.option("--v-negative", type=click.FloatRange(-1, 0), default=0.0, metavar="X", help="-1 below X thresholds.")
@click.option("--unsigned", is_flag=True, help="Never take a spike back.")
@click.option("--bias", type=click.Choice(["spread", "once"]), default="spread", show_default=True)
@click.option("--t-drive", type=click.IntRange(1, 1 << 20), metavar="N", help="Driven steps; default L.")
@click.option("--odd-thresholds", is_flag=True, help="No exact ties in rounding.")
@click.option("--max-shift", type=click.IntRange(0, 16), default=MOST_SHIFT, show_default=True, metavar="R",
              help="Refine no charge unit by more than 2^R; less: narrower membranes, levels may move.")  # fmt: skip
@click.option("--membrane-bits", type=click.IntRange(3, 48), metavar="BITS",
              help="Membranes this wide, which provably never overflow: units as fine as that allows.")  # fmt: skip
@click.option("--state-bits", type=click.IntRange(3, 48), metavar="BITS", help="Membranes this wide, which saturate.")
@trust_option
@threads_option
@json_option
@click.pass_context
def command(ctx: click.Context, src: str, output: str, json_path: str | None, **options) -> None:
    """Convert a trained network SRC to spikes and integers.

    SRC is a trained network of Keras or ONNX, a state dict of PyTorch with an --architecture, or a float or quantised
    ANN (the latter needs no calibration). The input scale is by default that of the data set (1/255 for images), of a
    file that does not say it a guess from its codes; it is stored in NET.h5. --evaluate refuses data that are also in
    those of --calibrate.

    Example: intsnn convert trained.h5 -o net.h5 --weights 4 --calibrate mnist:train:1000 --evaluate mnist
    """
    from ...conversion.spikes import NeuronRule
    from ...network.quantised import InputScale, QuantisedNetwork

    with options_checked():
        rule = NeuronRule(
            options["method"],
            cap=not options["no_cap"],
            v_negative=options["v_negative"],
            signed=not options["unsigned"],
            bias=options["bias"],
            t_drive=options["t_drive"],
            odd_thresholds=options["odd_thresholds"],
            most_shift=options["max_shift"],
            membrane_bits=options["membrane_bits"],
            state_bits=options["state_bits"],
        )
        scale = InputScale.parse(options["input_scale"]) if options["input_scale"] else None
    check_output(output, src, options["architecture"])
    check_output(json_path, src, output)
    about = {name: options[name] for name in ("architecture", "backend", "input_shape")}
    network = load_network(src, options["trust"], **about)
    if not isinstance(network, QuantisedNetwork) and hasattr(network, "edges"):
        raise ConversionError(f"{src} is a spiking network already; intsnn run {src} --data DATA runs it")
    if isinstance(network, QuantisedNetwork):
        given = [
            "--" + name.replace("_", "-")
            for name in ("weights", "activations", "first_last", "input_scale", "rounding", "no_bias_correction")
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise Failure(f"{src} is quantised already, and says so itself; leave out {', '.join(given)}", USAGE)
        result = _convert_quantised(network, rule, options)
    elif options["calibrate"] is None:
        raise Failure(
            f"{src} is a float network: --calibrate DATA is needed to choose its scales, for example --calibrate "
            "mnist:train:1000 or --calibrate my.npz",
            USAGE,
        )
    else:
        result = _convert_float(network, rule, scale, options)
    _save_and_report(result, src, output, options, json_path)


def _convert_quantised(network, rule, options: dict) -> dict:
    """Exact conversion; accuracies where there are data."""
    from ...conversion.pipeline import aim, check_fit, doubts, measure
    from ...conversion.spikes import convert as convert_network
    from ..console import Console

    conversion = convert_network(network, rule)
    data = None
    if options["evaluate"]:
        data = read_data(options["evaluate"])
    elif options["calibrate"]:
        data = read_data(options["calibrate"], "train")
    found: dict = {"stages": (), "aim": None, "warnings": ()}
    if data is not None:
        check_fit(conversion.network, data)
        before = [("quantised ANN", network.graph)]
        if any(found.get("branches", 1) > 1 for found in conversion.layers.values()):
            before.append(("joins in one unit", conversion.joined))
        with Console(None).progress("stages") as progress:
            stages = measure(
                before, data, network.input_scale, conversion.network, options["threads"] or cores(), progress
            )
        warnings = doubts(stages[0].accuracy, data, conversion.network, network.input_scale)
        found = {"stages": stages, "aim": aim(conversion.network, data), "warnings": warnings}
    return found | {
        "conversion": conversion, "scale": network.input_scale, "zeroed": {}, "clipped": {}, "calibrated_on": None,
        "evaluated_on": data.name if data is not None else None, "float_bytes": None, "overlap": None, "assumed": "",
    }  # fmt: skip


def _convert_float(network, rule, scale, options: dict) -> dict:
    """Calibration, quantisation, conversion."""
    from ...analysis.description import float_bytes
    from ...conversion.pipeline import convert_float
    from ..console import Console

    calibration = read_data(options["calibrate"], "train")
    evaluation = read_data(options["evaluate"]) if options["evaluate"] else None
    with Console(None).progress("stages") as progress:
        found = convert_float(
            network,
            calibration,
            evaluation=evaluation,
            rule=rule,
            weight_bits=options["weights"],
            activation_bits=options["activations"],
            input_scale=scale,
            first_last_bits=options["first_last"],
            bias_correction=not options["no_bias_correction"],
            rounding=options["rounding"],
            allow_overlap=options["allow_overlap"],
            threads=options["threads"] or cores(),
            progress=progress,
        )
    return {
        "conversion": found.conversion, "stages": found.stages, "scale": found.quantised.input_scale,
        "zeroed": found.zeroed, "clipped": found.clipped, "calibrated_on": calibration.name,
        "rounding": (found.rounding, found.errors),
        "evaluated_on": found.evaluated_on, "float_bytes": float_bytes(network), "aim": found.aim,
        "overlap": found.overlap, "warnings": found.warnings, "unseen": evaluation is not None,
        "assumed": "" if scale else calibration.assumed,
    }  # fmt: skip


SETTINGS = (
    "method", "weights", "activations", "first_last", "rounding", "no_bias_correction", "no_cap", "v_negative",
    "unsigned", "bias", "t_drive", "odd_thresholds", "max_shift", "membrane_bits", "state_bits", "backend",
)  # fmt: skip


def _save_and_report(result: dict, src: str, output: str, options: dict, json_path: str | None) -> None:
    """Write the network with where it comes from; show stages and layers."""
    from ...analysis.description import describe
    from ...files.network_file import save
    from ..console import Console
    from ..tables import layer_rows, show_layers

    network = result["conversion"].network
    provenance = _provenance(result, src, options)
    with writing(output):
        save(network, output, provenance=provenance)
    rows = layer_rows(result["conversion"], result["zeroed"], result["clipped"])
    totals = describe(network).totals
    console = Console(json_path)
    _show_source(console, result, src)
    if result["stages"]:
        _show_stages(console, result, provenance["on_calibration_data"])
    show_layers(console, rows)
    _show_widths(console, rows, options)
    _show_sizes(console, result, output, totals)
    values = {"source": src, "output": output, **_figures(result, rows, totals), "file_bytes": os.path.getsize(output)}
    finish(console, values | {name: value for name, value in provenance.items() if name != "source"})


def _provenance(result: dict, src: str, options: dict) -> dict:
    """Where the network comes from: plain values for its file."""
    from ..tables import stages_values

    quantised = result["calibrated_on"] is None
    return {
        "source": os.path.basename(src),
        "source_sha256": sha256(file_of(src)),
        "architecture": os.path.basename(options["architecture"]) if options["architecture"] else None,
        "calibrated_on": result["calibrated_on"],
        "input_scale": str(result["scale"]),
        "settings": {name: options[name] for name in SETTINGS if not (quantised and name in SETTINGS[1:6])},
        "input_scale_assumed": result["assumed"] or None,
        "evaluated_on": result["evaluated_on"],
        "on_calibration_data": bool(result["calibrated_on"]) and not result["unseen"],
        "overlap": None if result["overlap"] is None else result["overlap"].values(),
        "judged_by": None if result["aim"] is None else result["aim"].kind,
        "decision": None if result["aim"] is None else result["aim"].decision,
        "warnings": list(result["warnings"]),
        "stages": stages_values(result["stages"]),
    }


def _show_source(console, result: dict, src: str) -> None:
    console.line(f"source       {src}")
    console.line(
        f"input scale  {result['scale']} (real input of code 1{', then the offset' if result['scale'].offset else ''})"
    )
    if result["assumed"]:
        console.line(f"             assumed: {result['assumed']}; --input-scale says another")
    if result["calibrated_on"]:
        console.line(f"calibrated   {result['calibrated_on']}")
        done, errors = result["rounding"]
        why = ", ".join(f"{name} {error:.2g}" for name, error in errors.items())
        console.line(f"rounding     {done}{f' (error of held-back outputs: {why})' if errors else ''}")


def _show_widths(console, rows: list[dict], options: dict) -> None:
    """What narrow membranes that were asked for cost."""
    neurons = [row for row in rows if "moved_levels" in row]
    moved, levels = (sum(row[key] for row in neurons) for key in ("moved_levels", "levels"))
    widths = sorted({row["membrane_bits"] for row in neurons})
    if options["membrane_bits"] or options["max_shift"] < MOST_SHIFT:
        bits = f"{widths[0]} bits" if len(widths) == 1 else f"{widths[0]} to {widths[-1]} bits"
        how = "saturating" if options["state_bits"] else "proven never to overflow"
        console.line(f"membranes    {bits}, {how}; {moved:,} of {levels:,} levels moved")


def _show_sizes(console, result: dict, output: str, totals: dict) -> None:
    from ..console import size

    network, floats = result["conversion"].network, result["float_bytes"] or {}
    console.line()
    for what, key, packed in (("weights", "weights", totals["weight_bytes"]), ("all arrays", "all", totals["bytes"])):
        before = f"float32 {size(floats[key])}; " if floats else ""
        console.line(f"{what:<13}{before}packed {size(packed)}")
    console.line(
        f"written      {output}, {size(os.path.getsize(output))}, T_drive {network.t_drive}, L {network.levels}"
    )


def _figures(result: dict, rows: list[dict], totals: dict) -> dict:
    """Plain values of what was made."""
    network, stages, floats = result["conversion"].network, result["stages"], result["float_bytes"] or {}
    calibrated = result["calibrated_on"] is not None
    rounding, errors = result["rounding"] if calibrated else (None, None)
    return {
        "accuracy": stages[-1].accuracy if stages else None,
        "float_accuracy": stages[0].accuracy if stages and calibrated else None,
        "t_drive": network.t_drive,
        "levels": network.levels,
        **_errors(stages),
        "layers": rows,
        "float_bytes": floats.get("all"),
        "float_weight_bytes": floats.get("weights"),
        "totals": totals,
        "rounding": rounding,
        "rounding_errors": errors,
    }


def _show_stages(console, result: dict, on_calibration: bool) -> None:
    """The table of stages, and all that its figures have to be read with."""
    from ..tables import show_stages

    on = result["evaluated_on"]
    if on_calibration:
        on = f"the calibration data, {on} (give unseen data with --evaluate)"
    if result["overlap"] is not None:
        on = f"{on} (overlap allowed: {result['overlap']})"
    show_stages(console, on, result["stages"])
    if result["aim"].note:
        console.line(f"({result['aim'].note})")
    for warning in result["warnings"]:
        console.line(f"warning: {warning}; see --input-scale")


def _errors(stages) -> dict:
    """Of the settled network, where its outputs are no classes."""
    if not stages or stages[-1].error is None:
        return {}
    error, target = stages[-1].error, stages[-1].target_error
    return {"error": error.values(), "target_error": None if target is None else target.values()}
