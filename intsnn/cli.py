"""The command line: ``intsnn convert``, ``run``, ``verify``, ``inspect``, ``demo``.

Exit status: 0 done; 2 an option or its value is wrong; 3 a file, network or data set is missing or refused; 4 not equal
where equality is due; 5 a fault of intsnn itself; 130 interrupted. An error is one line on standard error; with
``INTSNN_DEBUG=1`` the traceback stands before it.

Nothing heavy is imported before a command needs it: ``intsnn --help`` has to be quick.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from . import __version__
from .errors import ConversionError, DataNotFoundError, FormatError, IntsnnError, MismatchError

__all__ = ["main"]

USAGE, REFUSED, MISMATCH, INTERNAL, INTERRUPTED = 2, 3, 4, 5, 130
DATA_HELP = "NAME[:train|:test][:N] (digits, mnist, ...) or a .npz or .h5 file."
DEMO_BITS = 4  # of weights and activations


class Failure(click.ClickException):
    """An error that ends the command: one line, and its exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code


def one_line(text: str) -> str:
    """`text` without line breaks and control characters (names in files may hold any)."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(str(text).split()))


def failure(error: BaseException) -> Failure:
    """What the command line says of an exception."""
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", INTERRUPTED)
    if isinstance(error, IntsnnError):
        return Failure(str(error), MISMATCH if isinstance(error, MismatchError) else REFUSED)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return Failure(f"{name}{error.strerror or error}", REFUSED)
    if isinstance(error, MemoryError):
        return Failure("not enough memory; use fewer samples, a smaller --batch-size or fewer --threads", REFUSED)
    return Failure(
        f"{type(error).__name__}: {error} (a fault of intsnn; INTSNN_DEBUG=1 shows where it happened)", INTERNAL
    )


class _Commands(click.Group):
    """A group in which every error becomes one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("INTSNN_DEBUG") == "1":
                traceback.print_exc()
            raise failure(error) from None


@contextmanager
def options_checked() -> Iterator[None]:
    """Here a FormatError is about an option."""
    try:
        yield
    except FormatError as error:
        raise Failure(str(error), USAGE) from None


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Here an OSError is about the file that is written, which libraries do not always say."""
    try:
        yield
    except OSError as error:
        if isinstance(error, IntsnnError):
            raise
        raise Failure(f"{path} could not be written: {error.strerror or error}", REFUSED) from error


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


json_option = click.option("--json", "json_path", metavar="FILE", help="Write the results as JSON (- for stdout).")
trust_option = click.option("--trust", is_flag=True, help="Read the file in this process: a file of known origin only.")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=None, metavar="N", help="Default: all cores. Never changes a bit."
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="intsnn")
def main() -> None:
    """Spiking neural networks in which every number is an integer, simulated bit for bit.

    Exit status: 0 done, 2 wrong use, 3 missing or refused input, 4 not equal where equality is due, 5 internal fault.
    """


# ---------------------------------------------------------------------------------------------------------------------
# what the commands share
# ---------------------------------------------------------------------------------------------------------------------


def _data(spec: str):
    """The data set `spec` names; a spec that cannot be read is wrong use, a file that cannot is refused."""
    from . import datasets

    try:
        return datasets.load(spec)
    except FormatError as error:
        is_file = os.path.isfile(re.sub(r"(:(train|test))?(:[0-9]+)?$", "", spec))
        raise Failure(str(error), REFUSED if is_file else USAGE) from None


def _load(path: str, trust: bool, **options):
    """Whatever network is in the file: our own, or a trained one."""
    from .models.readers import load

    return load(path, trust=trust, **options)


def _integer_network(path: str, trust: bool):
    """A converted network, or an error that says how to make one."""
    from .network import Network

    network = _load(path, trust)
    if isinstance(network, Network):
        return network
    what, more = ("a quantised ANN", "") if hasattr(network, "graph") else ("a float network", " --calibrate DATA")
    raise ConversionError(
        f"{path} holds {what}, not a spiking network; convert it first: intsnn convert {path} -o NET.h5{more}"
    )


def _check_output(path: str | None, *inputs: str | None) -> None:
    """Find out before the work that its result has no place to go."""
    if path is None or path == "-":
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise DataNotFoundError(f"there is no folder {folder} to write {os.path.basename(path)} in")
    if os.path.isdir(path):
        raise Failure(f"{path} is a folder; give the name of a file to write", USAGE)
    if not os.access(folder, os.W_OK):
        raise Failure(f"{folder}: {os.strerror(13)}", REFUSED)
    for source in inputs:
        if source and os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise Failure(f"{path} is also what is read; write to another file", USAGE)


def _finish(report, values: dict) -> None:
    """Leave the JSON that was asked for."""
    with writing(report.json_path or ""):
        report.finish(values)


def _sha256(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# convert
# ---------------------------------------------------------------------------------------------------------------------

BITS = click.IntRange(1, 8)


@main.command()
@click.argument("src")
@click.option("-o", "--output", required=True, metavar="NET.h5", help="Where the integer network goes.")
@click.option("--architecture", metavar="FILE.json", help="For weights only; default: SRC with the ending .json.")
@click.option(
    "--input-scale", metavar="SCALE[,OFFSET]", help="Real input = SCALE * code + OFFSET, e.g. 1/255 or 2/255,-1."
)
@click.option("--backend", type=click.Choice(["theano", "tensorflow"]), help="Where SRC does not say.")
@click.option("--method", type=click.Choice(["fast-snn", "qffs", "ca-lif"]), default="fast-snn", show_default=True)
@click.option("--weights", type=BITS, default=8, show_default=True, metavar="BITS", help="Width of the weights.")
@click.option("--activations", type=BITS, default=4, show_default=True, metavar="BITS", help="L = 2^BITS - 1 levels.")
@click.option("--first-last", type=BITS, metavar="BITS", help="Other width for the first and last layer.")
@click.option("--calibrate", metavar="DATA", help=f"Training data for the scales. {DATA_HELP}")
@click.option("--evaluate", metavar="DATA", help="Data for the accuracy of each stage; default: those of --calibrate.")
@click.option("--no-bias-correction", is_flag=True, help="Leave the biases as they are.")
@click.option("--no-cap", is_flag=True, help="Let counts exceed L, as published for Fast-SNN.")
@click.option("--v-negative", type=click.FloatRange(-1, 0), default=0.0, metavar="X", help="-1 below X thresholds.")
@click.option("--unsigned", is_flag=True, help="Never take a spike back.")
@click.option("--bias", type=click.Choice(["spread", "once"]), default="spread", show_default=True)
@click.option("--t-drive", type=click.IntRange(1, 1 << 20), metavar="N", help="Driven steps; default L.")
@click.option("--odd-thresholds", is_flag=True, help="No exact ties in rounding.")
@trust_option
@threads_option
@json_option
@click.pass_context
def convert(ctx: click.Context, src: str, output: str, json_path: str | None, **options) -> None:
    """Convert a trained network SRC to spikes and integers.

    SRC is a trained Keras network, or a quantised ANN of intsnn (which needs no calibration). The input scale is by
    default that of the data set (1/255 for images); it is stored in NET.h5.

    Example: intsnn convert trained.h5 -o net.h5 --weights 4 --calibrate mnist:train:1000 --evaluate mnist
    """
    from .convert import Rule
    from .quantised import InputScale, QuantisedNetwork

    with options_checked():
        rule = Rule(
            options["method"],
            cap=not options["no_cap"],
            v_negative=options["v_negative"],
            signed=not options["unsigned"],
            bias=options["bias"],
            t_drive=options["t_drive"],
            odd_thresholds=options["odd_thresholds"],
        )
        scale = InputScale.parse(options["input_scale"]) if options["input_scale"] else None
    _check_output(output, src, options["architecture"])
    _check_output(json_path, src, output)
    network = _load(src, options["trust"], architecture=options["architecture"], backend=options["backend"])
    if not isinstance(network, QuantisedNetwork) and hasattr(network, "edges"):
        raise ConversionError(f"{src} is a spiking network already; intsnn run {src} --data DATA runs it")
    if isinstance(network, QuantisedNetwork):
        given = [
            "--" + name.replace("_", "-")
            for name in ("weights", "activations", "first_last", "input_scale", "no_bias_correction")
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
    from .console import Report
    from .convert import convert as convert_network
    from .pipeline import check_fit, measure

    conversion = convert_network(network, rule)
    spec = options["evaluate"] or options["calibrate"]
    data = _data(spec) if spec else None
    stages = ()
    if data is not None:
        check_fit(conversion.network, data)
        if data.labels is not None:
            before = [("quantised ANN", network.graph)]
            if any(found.get("branches", 1) > 1 for found in conversion.layers.values()):
                before.append(("joins in one unit", conversion.joined))
            with Report(None).progress("stages") as progress:
                stages = measure(
                    before, data, network.input_scale, conversion.network, options["threads"] or cores(), progress
                )
    return {
        "conversion": conversion, "stages": stages, "scale": network.input_scale, "zeroed": {}, "clipped": {},
        "calibrated_on": None, "evaluated_on": data.name if data is not None else None, "float_bytes": None,
    }  # fmt: skip


def _convert_float(network, rule, scale, options: dict) -> dict:
    """Calibration, quantisation, conversion."""
    from .console import Report
    from .describe import float_bytes
    from .pipeline import convert_float

    calibration = _data(options["calibrate"])
    evaluation = _data(options["evaluate"]) if options["evaluate"] else None
    with Report(None).progress("stages") as progress:
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
            threads=options["threads"] or cores(),
            progress=progress,
        )
    return {
        "conversion": found.conversion, "stages": found.stages, "scale": found.quantised.input_scale,
        "zeroed": found.zeroed, "clipped": found.clipped, "calibrated_on": calibration.name,
        "evaluated_on": found.evaluated_on, "float_bytes": float_bytes(network),
    }  # fmt: skip


SETTINGS = (
    "method", "weights", "activations", "first_last", "no_bias_correction", "no_cap", "v_negative", "unsigned", "bias",
    "t_drive", "odd_thresholds", "backend",
)  # fmt: skip


def _save_and_report(result: dict, src: str, output: str, options: dict, json_path: str | None) -> dict:
    """Write the network with where it comes from; show stages and layers."""
    from .console import Report, size
    from .describe import describe
    from .files import save
    from .present import layer_rows, show_layers, show_stages, stages_values

    network, stages = result["conversion"].network, result["stages"]
    quantised = result["calibrated_on"] is None
    settings = {name: options[name] for name in SETTINGS if not (quantised and name in SETTINGS[1:5])}
    provenance = {
        "source": os.path.basename(src),
        "source_sha256": _sha256(src),
        "architecture": os.path.basename(options["architecture"]) if options["architecture"] else None,
        "calibrated_on": result["calibrated_on"],
        "input_scale": str(result["scale"]),
        "settings": settings,
        "evaluated_on": result["evaluated_on"],
        "stages": stages_values(stages),
    }
    with writing(output):
        save(network, output, provenance=provenance)
    rows = layer_rows(result["conversion"], result["zeroed"], result["clipped"])
    totals = describe(network).totals
    report = Report(json_path)
    report.line(f"source       {src}")
    report.line(
        f"input scale  {result['scale']} (real input of code 1{', then the offset' if result['scale'].offset else ''})"
    )
    if result["calibrated_on"]:
        report.line(f"calibrated   {result['calibrated_on']}")
    if stages:
        same = result["evaluated_on"] == result["calibrated_on"]
        note = " (the calibration data; give others with --evaluate)" if same else ""
        show_stages(report, f"Accuracy on {result['evaluated_on']}{note}", stages)
    elif result["evaluated_on"]:
        report.line(f"{result['evaluated_on']} has no labels: no accuracy")
    show_layers(report, rows)
    before = "" if result["float_bytes"] is None else f"float32 {size(result['float_bytes'])}; "
    report.line()
    report.line(f"weights      {before}packed {size(totals['weight_bytes'])}")
    report.line(
        f"written      {output}, {size(os.path.getsize(output))}, T_drive {network.t_drive}, L {network.levels}"
    )
    values = {
        "source": src,
        "output": output,
        "accuracy": stages[-1].accuracy if stages else None,
        "float_accuracy": stages[0].accuracy if stages and not quantised else None,
        "t_drive": network.t_drive,
        "levels": network.levels,
        "layers": rows,
        "float_bytes": result["float_bytes"],
        "totals": totals,
        "file_bytes": os.path.getsize(output),
        **{name: value for name, value in provenance.items() if name != "source"},
    }
    _finish(report, values)
    return values


# ---------------------------------------------------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------------------------------------------------

QUANTITIES = ("spikes", "counts", "v", "u", "current")


@main.command()
@click.argument("net")
@click.option("--data", required=True, metavar="DATA", help=DATA_HELP)
@click.option("--steps", type=click.IntRange(min=1), metavar="T", help="Steps to observe; default T_drive.")
@click.option("--settle/--no-settle", default=None, help="Go on until quiet; default for converted networks.")
@click.option("--strict", is_flag=True, help="Any overflow is an error.")
@click.option("--record", metavar="FILE", help="Write what every layer did in every step to this HDF5 file.")
@click.option("--what", default="spikes,v", show_default=True, metavar="LIST", help=f"Of {', '.join(QUANTITIES)}.")
@click.option(
    "--path", "path_", type=click.Choice(["auto", "layer", "step", "reference"]), default="auto", show_default=True
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Samples at a time. Never changes a bit.")
@trust_option
@threads_option
@json_option
def run(
    net: str, data: str, steps: int | None, settle: bool | None, strict: bool, record: str | None, what: str,
    path_: str, batch_size: int | None, trust: bool, threads: int | None, json_path: str | None,
) -> None:  # fmt: skip
    """Run a spiking network NET on DATA.

    A settling run finishes the drive of T_drive steps and goes on until no neuron fires, whatever T is; --no-settle
    observes T steps and no more.
    """
    import time
    from dataclasses import asdict

    from .console import Report, number, percent
    from .pipeline import check_fit
    from .simulate import simulate

    quantities = tuple(word.strip() for word in what.split(","))
    if not all(word.rpartition(".")[2] in QUANTITIES for word in quantities):
        raise Failure(f"--what: found {what!r}; a list of {', '.join(QUANTITIES)}, or of layer.quantity", USAGE)
    _check_output(record, net)
    _check_output(json_path, net, record)
    network = _integer_network(net, trust)
    dataset = _data(data)
    check_fit(network, dataset)
    settle = network.levels is not None if settle is None else settle
    report = Report(json_path)
    start = time.perf_counter()
    with options_checked(), report.progress("simulate") as progress:
        result = simulate(
            network,
            dataset.images,
            steps=steps,
            settle=settle,
            record=quantities if record else (),
            record_to=record,
            strict=strict,
            threads=threads or cores(),
            batch_size=batch_size,
            path=path_,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    correct = accuracy = None
    if dataset.labels is not None:
        correct = int((result.predictions == dataset.labels).sum())
        accuracy = 100.0 * correct / max(1, result.samples)
    extra = int(result.extra_steps.max(initial=0))
    if accuracy is None:
        report.line(f"{dataset.name}: {number(result.samples)} samples without labels")
    else:
        report.line(f"{dataset.name}: {percent(accuracy)} ({number(correct)} of {number(result.samples)} right)")
    rest = "" if result.settled is None else "; settled" if result.settled else "; NOT settled at the bound"
    report.line(f"{result.steps} steps, {extra} of them after the drive{rest}")
    if settle and steps is not None and result.steps > steps:
        report.line(f"(a settling run goes on after step {steps}; --no-settle stops there)")
    report.line(f"{result.spikes_per_neuron:.3f} spikes per neuron and sample, {number(result.overflows)} overflows")
    rows = [
        (
            layer.name, layer.neurons, round(layer.spikes / max(1, layer.neurons * result.samples), 3), layer.peak_sum,
            layer.peak_v, network.nodes[layer.name].v_format.bits, layer.dead, layer.always_on, layer.overflows,
        )
        for layer in result.layers.values()
    ]  # fmt: skip
    columns = ("layer", "neurons", "spikes", "peak |sum|", "peak |v|", "v bits", "dead", "always on", "overflows")
    report.table("Layers (spikes: per neuron and sample)", columns, rows)
    if record:
        report.line(f"\nrecorded {what} to {record}")
    report.line(f"{seconds:.2f} s")
    _finish(
        report,
        {
            "network": net,
            "data": dataset.name,
            "accuracy": accuracy,
            "samples": result.samples,
            "correct": correct,
            "steps": result.steps,
            "extra_steps": extra,
            "settled": result.settled,
            "spikes_per_neuron": result.spikes_per_neuron,
            "overflows": result.overflows,
            "seconds": seconds,
            "threads": threads or cores(),
            "path": path_,
            "record": record,
            "layers": [asdict(layer) | {"overflows": layer.overflows} for layer in result.layers.values()],
        },
    )


# ---------------------------------------------------------------------------------------------------------------------
# verify, inspect
# ---------------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("net")
@click.option("--data", required=True, metavar="DATA", help=DATA_HELP)
@click.option("--reference", type=click.IntRange(min=0), default=2, show_default=True, metavar="N",
              help="On how many samples the plain reference (slow) runs.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), metavar="T", help="Where the network does not say.")
@trust_option
@threads_option
@json_option
def verify(
    net: str, data: str, reference: int, steps: int | None, trust: bool, threads: int | None, json_path: str | None
) -> None:
    """Compare all paths of NET and its ANN on DATA.

    Every compiled path and the integer ANN run on all DATA, the plain reference on the first samples. Exit status 0
    if all are equal where equality is due, else 4. Converted networks with the default neuron equal their ANN in every
    neuron; for the published variants the mismatch is shown and is no failure.
    """
    import time

    from .console import Report
    from .pipeline import check_fit
    from .present import show_verification, verification_values
    from .verify import verify as verify_network

    _check_output(json_path, net)
    network = _integer_network(net, trust)
    dataset = _data(data)
    check_fit(network, dataset)
    report = Report(json_path)
    start = time.perf_counter()
    with options_checked(), report.progress("verify") as progress:
        outcome = verify_network(
            network, dataset.images, reference=reference, threads=threads or cores(), steps=steps, progress=progress
        )
    values = {"network": net, "data": dataset.name} | verification_values(outcome, time.perf_counter() - start)
    show_verification(report, outcome)
    _finish(report, values)
    if not outcome.ok:
        raise Failure(f"{net} on {dataset.name}: {outcome.mismatches} mismatches; first: {outcome.first}", MISMATCH)


INSPECT_COLUMNS = {
    "layer": "name", "kind": "kind", "shape": "shape", "what": "detail", "format": "format", "values": "weight",
    "scale": "scale", "times": "multiplier", "bias": "bias", "threshold": "threshold", "levels": "levels",
    "sum bits": "sum_bits", "state bits": "state_bits", "bytes": "bytes",
}  # fmt: skip


@main.command()
@click.argument("file")
@click.option("--architecture", metavar="FILE.json", help="For weights only; default: FILE with the ending .json.")
@click.option("--backend", type=click.Choice(["theano", "tensorflow"]), help="Where FILE does not say.")
@trust_option
@json_option
def inspect(file: str, architecture: str | None, backend: str | None, trust: bool, json_path: str | None) -> None:
    """Show the layers, widths and bytes of FILE.

    FILE is a network or quantised ANN of intsnn, or a trained Keras network.
    """
    from dataclasses import asdict

    from .console import Report, number, size
    from .describe import describe
    from .files import read_info

    _check_output(json_path, file)
    found = describe(_load(file, trust, architecture=architecture, backend=backend))
    provenance = {} if found.kind == "float" else read_info(file, trust=trust).provenance
    report = Report(json_path)
    report.line(f"{file}: {found.title}, {size(os.path.getsize(file))}")
    for name, value in found.facts.items():
        if value not in (None, "", [], False):
            report.line(f"{name.replace('_', ' '):<15}{_plain(value)}")
    for name, value in provenance.items():
        if name not in found.facts and name != "stages" and value not in (None, "", {}):
            report.line(f"{name.replace('_', ' '):<15}{_plain(value)}")
    rows = [
        tuple("x".join(map(str, row[key])) if key == "shape" else row.get(key) for key in INSPECT_COLUMNS.values())
        for row in found.layers
    ]
    totals = found.totals
    report.table("Layers", tuple(INSPECT_COLUMNS), rows)
    report.line()
    report.line(
        f"{number(totals['parameters'])} weights and biases; weights {size(totals['weight_bytes'])}"
        f"{'' if found.kind == 'float' else ' packed'}, all arrays {size(totals['bytes'])}"
    )
    if "neurons" in totals:
        report.line(f"{number(totals['neurons'])} neurons; membranes {size(totals['membrane_bytes'])} a sample")
    _finish(report, {"file": file, "file_bytes": os.path.getsize(file), **asdict(found), "provenance": provenance})


def _plain(value) -> str:
    """A fact on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item not in (None, False))
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return one_line(value)


# ---------------------------------------------------------------------------------------------------------------------
# demo
# ---------------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("-o", "--output", metavar="NET.h5", help="Keep the converted network here.")
@threads_option
@json_option
def demo(output: str | None, threads: int | None, json_path: str | None) -> None:
    """Convert, run and verify on real digits.

    A small Keras network and the UCI handwritten digits come with intsnn; nothing else is needed.
    """
    import tempfile

    _check_output(output)
    _check_output(json_path, output)
    if output is not None:
        _demo(output, threads or cores(), json_path, kept=True)
        return
    with tempfile.TemporaryDirectory(prefix="intsnn-") as folder:
        _demo(os.path.join(folder, "digits.h5"), threads or cores(), json_path, kept=False)


def _demo(output: str, threads: int, json_path: str | None, kept: bool) -> None:
    import time

    from . import datasets, files
    from .console import Report, size
    from .convert import Rule
    from .describe import describe
    from .models import digits, keras
    from .pipeline import convert_float
    from .present import show_stages, show_verification, stages_values, verification_values
    from .simulate import simulate
    from .verify import verify as verify_network

    start = time.perf_counter()
    report = Report(json_path)
    source = digits.network_file()
    trained = keras.load(source)
    learn, test = datasets.load("digits:train"), datasets.load("digits:test")
    report.line(
        f"A trained Keras network in integers: weights and activations of {DEMO_BITS} bits, {len(test)} real digits"
    )
    with report.progress("convert") as progress:
        found = convert_float(
            trained, learn, evaluation=test, rule=Rule(), weight_bits=DEMO_BITS, activation_bits=DEMO_BITS,
            threads=threads, progress=progress,
        )  # fmt: skip
    provenance = {
        "source": source.name,
        "source_sha256": _sha256(os.fspath(source)),
        "calibrated_on": learn.name,
        "input_scale": str(found.quantised.input_scale),
        "settings": {"method": "fast-snn", "weights": DEMO_BITS, "activations": DEMO_BITS},
        "evaluated_on": test.name,
        "stages": stages_values(found.stages),
    }
    with writing(output):
        files.save(found.network, output, provenance=provenance)
    network = files.load(output)  # from here on, what is in the file
    show_stages(report, f"Accuracy on {test.name}", found.stages)
    result = simulate(network, test.images, settle=True, threads=threads)
    correct = int((result.predictions == test.labels).sum())
    extra = int(result.extra_steps.max(initial=0))
    before, totals = describe(trained).totals, describe(network).totals
    rows = [
        (what, before[key], totals[key], f"{before[key] / totals[key]:.1f} x")
        for what, key in (("weights, packed", "weight_bytes"), ("with biases and thresholds", "bytes"))
    ]
    rows.append(("membranes of one sample", None, totals["membrane_bytes"], None))
    report.table("Memory in bytes", ("what", "float32", "integers", "smaller"), rows)
    report.line()
    report.line(
        f"run: {correct} of {result.samples} right in {result.steps} steps ({extra} after the drive), "
        f"{result.spikes_per_neuron:.2f} spikes per neuron, {result.overflows} overflows"
    )
    with report.progress("verify") as progress:
        outcome = verify_network(network, test.images, reference=2, threads=threads, progress=progress)
    show_verification(report, outcome)
    seconds = time.perf_counter() - start
    if kept:
        report.line(f"written {output}, {size(os.path.getsize(output))}")
    report.line(f"{seconds:.1f} s")
    _finish(
        report,
        {
            "output": output if kept else None,
            "accuracy": 100.0 * correct / result.samples,
            "float_accuracy": found.stages[0].accuracy,
            "samples": result.samples,
            "correct": correct,
            "steps": result.steps,
            "extra_steps": extra,
            "settled": result.settled,
            "spikes_per_neuron": result.spikes_per_neuron,
            "overflows": result.overflows,
            "stages": stages_values(found.stages),
            "memory": {"float": before, "integer": totals},
            "verify": verification_values(outcome, seconds),
            "compared": outcome.compared,
            "mismatches": outcome.mismatches,
            "seconds": seconds,
        },
    )
    if not outcome.ok:
        raise Failure(f"{outcome.mismatches} mismatches; first: {outcome.first}", MISMATCH)


# ---------------------------------------------------------------------------------------------------------------------
# bench
# ---------------------------------------------------------------------------------------------------------------------

QUICK = {"rounds": 3, "seconds": 0.02}


@main.group()
def bench() -> None:
    """Measure: speed against other simulators."""


@bench.command()
@click.option("--workload", "workloads", multiple=True, metavar="NAME", help="More than one is possible; default: all.")
@click.option("--peers", metavar="LIST", help="Names with commas between them, or none; default: all.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=9, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Of all.")
@click.option("--quick", is_flag=True, help=f"{QUICK['rounds']} short rounds, unless --rounds says otherwise.")
@click.option("--pool", type=click.Choice(["sum", "max"]), default="sum", show_default=True, help="In image networks.")
@click.option("--scaling", is_flag=True, help="Also how cost grows with steps, batch, width and spike density.")
@click.option("--real", is_flag=True, help="Also trained networks, converted; needs INTSNN_DATA.")
@click.option("--plot", "plot_folder", metavar="DIR", help="Write plots here (PNG and SVG; needs matplotlib).")
@json_option
@click.pass_context
def speed(
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
    from .bench import plots, present
    from .bench import speed as measured
    from .console import Report

    _check_output(json_path)
    chosen = None
    if peers is not None:
        chosen = [] if peers.strip() == "none" else [name.strip() for name in peers.split(",") if name.strip()]
    if plot_folder is not None:
        plots.check_plots()
    given = ctx.get_parameter_source("rounds") is click.core.ParameterSource.COMMANDLINE
    report = Report(json_path)
    with options_checked(), report.progress("speed") as progress:
        result = measured.run(
            list(workloads) or None,
            rounds=QUICK["rounds"] if quick and not given else rounds,
            threads=threads,
            peers=chosen,
            seconds=QUICK["seconds"] if quick else measured.SECONDS,
            scaling=scaling,
            real=real,
            options={"pool": pool},
            progress=progress,
        )
    present.show_speed(report, result)
    if plot_folder is not None:
        with writing(plot_folder):
            for path in plots.plot_speed(result, plot_folder):
                report.line(f"written {path}")
    _finish(report, result)
