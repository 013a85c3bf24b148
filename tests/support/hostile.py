"""Named hostile files: each breaks one rule of the bounded reader or of an importer, and says how it is refused."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from intsnn.errors import DataNotFoundError, ShapeError, UnsupportedError


@dataclass(frozen=True)
class Hostile:
    """``make(folder)`` writes the file and returns its path; ``expected`` the code of ImportRefused, or an error."""

    name: str
    make: Callable[[Path], Path]
    expected: str | type[Exception]
    options: dict = field(default_factory=dict)


TREES: list[Hostile] = []
NETWORKS: list[Hostile] = []


# ---------------------------------------------------------------------------------------------------------------------
# files that no reader of ours may take
# ---------------------------------------------------------------------------------------------------------------------


def tree(expected, name=None, **options):
    """Register ``make(path)``, which writes anything at ``path``."""

    def register(make):
        label = name or make.__name__

        def build(folder):
            path = folder / f"{label}.h5"
            return make(path) or path

        TREES.append(Hostile(label, build, expected, options))
        return make

    return register


def hdf5(expected, **options):
    """Register ``make(file)``, which fills an open HDF5 file that already has a harmless array."""

    def register(make):
        def build(path):
            with h5py.File(path, "w") as file:
                file["fine"] = np.arange(6, dtype=np.float32)
                make(file)

        tree(expected, make.__name__, **options)(build)
        return make

    return register


@hdf5("external-link")
def external_link(file):
    file["other"] = h5py.ExternalLink("/etc/passwd", "/x")


@hdf5("external-link")
def external_link_in_a_group(file):
    file.create_group("a/b")["kernel"] = h5py.ExternalLink("other.h5", "/x")


@hdf5("soft-link")
def soft_link(file):
    file["other"] = h5py.SoftLink("/fine")


@hdf5("soft-link")
def soft_loop(file):
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


@hdf5("shared-object")
def hard_link_cycle(file):
    group = file.create_group("a")
    group["again"] = group


@hdf5("shared-object")
def hard_link_to_the_root(file):
    file.create_group("a")["up"] = file["/"]


@hdf5("shared-object")
def one_array_two_hundred_times(file):
    for k in range(200):
        file[f"copy{k}"] = file["fine"]


@hdf5("external-storage")
def external_storage(file):
    file.create_dataset("secret", (64,), "u1", external=[("/etc/hostname", 0, 64)])


@hdf5("virtual-dataset")
def virtual_dataset(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("v", layout)


@hdf5("budget")
def shape_bomb(file):
    file.create_dataset("huge", (1 << 20, 1 << 20), "f8", chunks=(1, 1 << 10))


@hdf5("size-mismatch")
def fill_bomb(file):
    file.create_dataset("zeros", (1 << 27,), "f4", chunks=(1 << 16,), fillvalue=1)


@hdf5("size-mismatch")
def array_never_written(file):
    file.create_dataset("zeros", (1 << 16,), "f4")


@hdf5("ratio")
def fill_bomb_behind_a_filter(file):
    file.create_dataset("zeros", (1 << 27,), "f4", chunks=(1 << 16,), compression="gzip")


@hdf5("ratio")
def gzip_bomb(file):
    file.create_dataset("zeros", data=np.zeros(1 << 22, np.uint8), chunks=(1 << 20,), compression="gzip")


def _low_level(file, name, shape, chunk, filters, dtype="f4"):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    for code, values in filters:
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, values)
    kind = dtype if isinstance(dtype, h5py.h5t.TypeID) else h5py.h5t.py_create(np.dtype(dtype))
    return h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(shape), plist)


@hdf5("filter")
def double_deflate(file):
    dataset = _low_level(file, b"zeros", (1 << 20,), (1 << 20,), [(1, (9,)), (1, (9,))])
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(1 << 20, np.float32))


@hdf5("filter")
def deflate_and_lzf(file):
    dataset = _low_level(file, b"x", (64,), (64,), [(1, (9,)), (32000, ())])
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(64, np.float32))


@hdf5("filter")
def unknown_filter(file):
    dataset = _low_level(file, b"x", (64,), (64,), [(32099, (1,))])
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(64, np.float32))


@hdf5("filter")
def scaleoffset_filter(file):
    file.create_dataset("x", data=np.arange(4096), chunks=(4096,), scaleoffset=4)


@hdf5("chunk")
def chunk_bomb(file):
    file.create_dataset("x", data=np.ones(8), maxshape=(None,), chunks=(1 << 22,), compression="gzip")


@hdf5("count")
def too_many_objects(file):
    for k in range(4100):
        file.create_group(f"g{k}")


@hdf5("count")
def too_many_attributes(file):
    for k in range(300):
        file.attrs[f"a{k}"] = k


@hdf5("budget", budget=1 << 20)
def arrays_over_the_budget(file):
    for k in range(12):
        file[f"x{k}"] = np.arange(1 << 17, dtype=np.uint8)


@hdf5("depth")
def deep_groups(file):
    file.create_group("/".join("g" * 40))


@hdf5("rank")
def nine_dimensions(file):
    file["x"] = np.zeros((1,) * 9, np.float32)


@hdf5("dataspace")
def null_dataspace(file):
    file["x"] = h5py.Empty("f4")


@hdf5("object-type")
def named_type(file):
    file["kind"] = np.dtype("f4")


@hdf5("type")
def object_references(file):
    file.create_dataset("refs", (2,), h5py.ref_dtype)


@hdf5("type")
def compound_values(file):
    file["x"] = np.zeros(4, [("a", "f4"), ("b", "i4")])


@hdf5("type")
def complex_values(file):
    file["x"] = np.zeros(4, np.complex64)


@hdf5("type")
def variable_length_numbers(file):
    file.create_dataset("x", (3,), h5py.vlen_dtype("i4"))


@hdf5("type")
def opaque_values(file):
    file["x"] = np.zeros(3, "V8")


@hdf5("type")
def enumeration(file):
    file.create_dataset("x", data=np.zeros(3, np.int8), dtype=h5py.enum_dtype({"A": 0, "B": 1}, "i1"))


@hdf5("type")
def array_type(file):
    kind = h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (4,))
    h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((2,)))


@hdf5("type")
def long_double(file):
    file["x"] = np.zeros(3, np.longdouble)


@hdf5("type")
def twelve_bit_integers(file):
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((2,)))


@hdf5("type")
def bit_field(file):
    h5py.h5d.create(file.id, b"x", h5py.h5t.STD_B8LE, h5py.h5s.create_simple((2,)))


@hdf5("type")
def reference_attribute(file):
    file.attrs["r"] = file["fine"].ref


@hdf5("type")
def opaque_attribute(file):
    file.attrs["o"] = np.void(b"code")


@hdf5("type")
def compound_attribute(file):
    file["fine"].attrs["c"] = np.zeros(2, [("a", "f4")])


@hdf5("type")
def variable_length_attribute(file):
    file.attrs.create("v", np.array([np.arange(3), np.arange(2)], object), dtype=h5py.vlen_dtype("i4"))


@hdf5("attribute-size")
def text_attribute_of_two_megabytes(file):
    file.attrs["t"] = "x" * (2 << 20)


@tree("attribute-size")
def numeric_attribute_of_eight_megabytes(path):
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["n"] = np.zeros(1 << 20)


@hdf5("rank")
def text_attribute_of_two_dimensions(file):
    file.attrs["t"] = np.array([[b"a", b"b"]])


@hdf5("text")
def text_that_is_no_utf8(file):
    file.attrs["t"] = np.bytes_(b"\xff\xfe\xfd")


@hdf5("text")
def text_dataset_too_long(file):
    file.create_dataset("t", data=np.array([b"x" * (9 << 20)] * 2))


@hdf5("text")
def too_many_strings(file):
    file.create_dataset("t", data=np.array([b"x"] * 70_000))


@hdf5("not-finite")
def nan(file):
    file["x"] = np.array([0, np.nan, 1], np.float32)


@hdf5("not-finite")
def infinity(file):
    file["x"] = np.array([0, -np.inf], np.float64)


@hdf5("not-finite")
def nan_attribute(file):
    file.attrs["x"] = float("nan")


@hdf5("not-finite")
def infinite_attribute_array(file):
    file.attrs["x"] = np.array([1.0, np.inf])


@hdf5("name")
def name_that_is_no_utf8(file):
    h5py.h5g.create(file.id, b"\xff\xfe")


@hdf5("name")
def name_too_long(file):
    file.create_group("n" * 300)


def _patched_name(path, old, new):
    with h5py.File(path, "w") as file:
        h5py.h5g.create(file.id, old)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@tree("name")
def name_dot_dot(path):
    _patched_name(path, b"QQ", b"..")


@tree("name")
def name_with_a_slash(path):
    _patched_name(path, b"aQb", b"a/b")


@tree("user-block")
def user_block(path):
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["x"] = np.arange(3)


def _plain(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4096, dtype=np.float32)
        file["g/y"] = np.arange(4096, dtype=np.int16)
        file.attrs["layer_names"] = [b"a", b"b"]


for _part in (0.02, 0.1, 0.5, 0.9, 0.999):

    @tree("truncated", f"truncated_at_{_part}")
    def _truncated(path, part=_part):
        _plain(path)
        os.truncate(path, int(path.stat().st_size * part))


@tree("truncated")
def truncated_in_the_signature(path):
    path.write_bytes(b"\x89HDF\r\n")


@tree("unreadable")
def nothing_after_the_signature(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n")


@tree("unreadable")
def noise_after_the_signature(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + np.random.default_rng(1).bytes(4000))


@tree("not-hdf5")
def noise(path):
    path.write_bytes(np.random.default_rng(2).bytes(4000))


@tree("empty")
def empty_file(path):
    path.write_bytes(b"")


@tree("lfs-pointer")
def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


@tree("zip")
def zip_instead_of_hdf5(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"b")


@tree("directory")
def folder(path):
    path.mkdir()


@tree(DataNotFoundError)
def missing(path):
    pass


@tree("too-large")
def sparse_file_of_a_terabyte(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    os.truncate(path, 1 << 40)


if hasattr(os, "mkfifo"):

    @tree("not-regular")
    def fifo(path):
        os.mkfifo(path)

    @tree("not-regular")
    def link_to_a_device(path):
        path.symlink_to("/dev/zero")

    @tree("unreadable")
    def link_to_itself(path):
        path.symlink_to(path)


# ---------------------------------------------------------------------------------------------------------------------
# files that are fine HDF5 and bad networks
# ---------------------------------------------------------------------------------------------------------------------


def keras_file(
    path,
    layers,
    weights,
    *,
    version="2.4.0",
    backend="tensorflow",
    model=None,
    inner="{layer}/{name}:0",
    split=0,
    full=True,
    **storage,
):
    """Write a Keras legacy file.

    ``layers`` are ``(class, config)`` of a Sequential model, or ``model`` is a whole configuration; ``weights`` are
    arrays by layer and name; ``split`` cuts name lists into that many attributes; ``storage`` goes to h5py.
    """
    if model is None:
        model = sequential(layers)
    with h5py.File(path, "w") as file:
        if full:
            file.attrs["model_config"] = np.bytes_(json.dumps(model).encode())
        root = file.create_group("model_weights") if full else file
        for target in {file, root}:
            if version:
                target.attrs["keras_version"] = version
            if backend:
                target.attrs["backend"] = backend
        _write_names(root, "layer_names", list(weights), split)
        for layer, arrays in weights.items():
            group = root.create_group(layer)
            names = [inner.format(layer=layer, name=name) for name in arrays]
            _write_names(group, "weight_names", names, split)
            for name, array in zip(names, arrays.values(), strict=True):
                group.create_dataset(name, data=array, **(storage if np.ndim(array) else {}))
        if full:
            file["optimizer_weights/iterations"] = np.int64(3)
            file["optimizer_weights/link"] = h5py.ExternalLink("nowhere.h5", "/x")
    return path


def _write_names(group, name, names, split):
    if not names:
        group.attrs[name] = np.zeros(0)
    elif split:
        for k, part in enumerate(np.array_split(np.array(names, "S"), split)):
            group.attrs[f"{name}{k}"] = part if part.size else np.zeros(0)
    else:
        group.attrs[name] = np.array(names, "S")


def sequential(layers):
    """Configuration of a Sequential model."""
    entries = [{"class_name": kind, "config": config} for kind, config in layers]
    return {"class_name": "Sequential", "config": {"name": "m", "layers": entries}}


def small():
    """Layers and weights of a network that imports: conv, flatten, dense."""
    rng = np.random.default_rng(0)
    layers = [
        (
            "Conv2D",
            {
                "name": "conv",
                "batch_input_shape": [None, 6, 6, 1],
                "filters": 3,
                "kernel_size": [3, 3],
                "strides": [1, 1],
                "padding": "valid",
                "data_format": "channels_last",
                "activation": "relu",
            },
        ),
        ("Flatten", {"name": "flat", "data_format": "channels_last"}),
        ("Dense", {"name": "out", "units": 4, "activation": "softmax"}),
    ]
    weights = {
        "conv": {"kernel": rng.normal(size=(3, 3, 1, 3)).astype("f4"), "bias": np.zeros(3, "f4")},
        "flat": {},
        "out": {"kernel": rng.normal(size=(48, 4)).astype("f4"), "bias": np.zeros(4, "f4")},
    }
    return layers, weights


def network(expected, **options):
    """Register ``change(layers, weights)``; it may return a whole model configuration."""

    def register(change):
        def build(folder):
            layers, weights = small()
            model = change(layers, weights)
            return keras_file(folder / f"{change.__name__}.h5", layers, weights, model=model)

        NETWORKS.append(Hostile(change.__name__, build, expected, options))
        return change

    return register


def config(expected, layer, name, /, **changes):
    """Register a network in which options of one layer are replaced."""

    def change(layers, weights):
        layers[layer][1].update(changes)

    change.__name__ = name
    network(expected)(change)


def extra(expected, name, kind, /, position=1, **options):
    """Register a network with one more layer."""

    def change(layers, weights):
        layers.insert(position, (kind, {"name": "extra", **options}))

    change.__name__ = name
    network(expected)(change)


config("config", 0, "negative_stride", strides=[-1, 1])
config("config", 0, "zero_stride", strides=[0, 0])
config("config", 0, "astronomic_stride", strides=[10**30, 1])
config("config", 0, "stride_of_text", strides="11")
config("config", 0, "stride_true", strides=[True, True])
config("config", 0, "three_strides", strides=[1, 1, 1])
config("config", 0, "negative_kernel", kernel_size=[-3, 3])
config(ShapeError, 0, "kernel_of_another_size", kernel_size=[5, 5])
config(ShapeError, 0, "other_filters", filters=7)
config("config", 0, "filters_that_are_no_integer", filters=3.5)
config("config", 0, "groups_that_do_not_divide", groups=2)
config(UnsupportedError, 0, "causal_padding", padding="causal")
config(UnsupportedError, 0, "full_padding", padding="full")
config("config", 0, "unknown_axis_order", data_format="sideways")
config(ShapeError, 0, "image_smaller_than_the_kernel", batch_input_shape=[None, 2, 2, 1])
config("config", 0, "negative_image", batch_input_shape=[None, -6, 6, 1])
config("config", 0, "endless_image", batch_input_shape=[None, 10**12, 6, 1])
config("config", 0, "image_too_large", batch_input_shape=[None, 60000, 60000, 1])
config("config", 0, "image_of_open_size", batch_input_shape=[None, None, None, 1])
config("config", 0, "image_of_text", batch_input_shape="6661")
config(UnsupportedError, 0, "five_dimensional_input", batch_input_shape=[None, 6, 6, 6, 1])
config(UnsupportedError, 0, "tanh", activation="tanh")
config(UnsupportedError, 0, "sigmoid", activation={"module": "builtins", "config": "sigmoid"})
config(UnsupportedError, 0, "softmax_in_the_middle", activation="softmax")
config("config", 0, "activation_that_is_a_number", activation=7)
config("config", 2, "absurd_units", units=10**15)
config("config", 2, "negative_units", units=-4)
config(ShapeError, 2, "other_units", units=5)
config("config", 2, "bias_flag_of_text", use_bias="yes")
config("weights", 2, "bias_that_is_not_there", use_bias=False)
config("config", 2, "doubled_layer_name", name="conv")
config("config", 2, "layer_name_that_is_a_list", name=["out"])
extra(UnsupportedError, "lambda_layer", "Lambda", function=["4wEAAA==", None, None])
extra(UnsupportedError, "lstm_layer", "LSTM", units=4)
extra("config", "permute_layer_of_one_axis_twice", "Permute", dims=[2, 2, 3])
extra(UnsupportedError, "layer_of_another_module", "os.system", command="true")
extra(UnsupportedError, "dunder_layer", "__import__")
extra(UnsupportedError, "leaky_relu_that_rises", "LeakyReLU", alpha=-0.1)
extra(UnsupportedError, "relu_with_slope_and_limit", "ReLU", negative_slope=0.2, max_value=6)
extra("config", "relu_with_negative_limit", "ReLU", max_value=-1.0)
extra("config", "relu_with_endless_limit", "ReLU", max_value=float("inf"))
extra("config", "negative_zero_padding", "ZeroPadding2D", padding=[-1, 1])
extra("config", "endless_zero_padding", "ZeroPadding2D", padding=[[10**9, 0], [0, 0]])
extra("config", "pool_of_zero", "MaxPooling2D", pool_size=[0, 2])
extra(ShapeError, "pool_larger_than_the_image", "AveragePooling2D", pool_size=[9, 9])
extra(ShapeError, "reshape_to_another_size", "Reshape", target_shape=[7, 7])
extra("config", "reshape_with_two_unknowns", "Reshape", target_shape=[-1, -1])
extra("weights", "batch_norm_without_weights", "BatchNormalization")
extra("config", "add_with_one_input", "Add")


@network("json-depth")
def json_depth_bomb(layers, weights):
    bomb = []
    for _ in range(500):
        bomb = [bomb]
    layers[0][1]["initializer"] = bomb


@network(UnsupportedError)
def subclassed_model(layers, weights):
    return {"class_name": "MyModel", "config": {}}


@network("config")
def model_without_layers(layers, weights):
    return {"class_name": "Sequential", "config": {"layers": []}}


@network("config")
def configuration_that_is_a_list(layers, weights):
    return [1, 2, 3]


@network("config")
def layers_that_are_numbers(layers, weights):
    return {"class_name": "Sequential", "config": [1, 2]}


@network(UnsupportedError)
def class_name_that_is_a_list(layers, weights):
    return {"class_name": ["Sequential"], "config": []}


def _functional(nodes, output="out"):
    layers, _ = small()
    options = {config["name"]: (kind, config) for kind, config in layers}
    options["in"] = ("InputLayer", {"name": "in", "batch_input_shape": [None, 6, 6, 1]})
    entries = []
    for name, inbound in nodes.items():
        kind, config = options[name]
        entries.append({"class_name": kind, "name": name, "config": config, "inbound_nodes": inbound})
    outputs = output if isinstance(output, list) else [[output, 0, 0]]
    return {
        "class_name": "Functional",
        "config": {"layers": entries, "input_layers": [["in", 0, 0]], "output_layers": outputs},
    }


def _after(name):
    return [[[name, 0, 0, {}]]]


@network("config")
def cycle_of_layers(layers, weights):
    return _functional({"in": [], "conv": _after("out"), "flat": _after("conv"), "out": _after("flat")})


@network("config")
def input_that_is_not_there(layers, weights):
    return _functional({"in": [], "conv": _after("ghost"), "flat": _after("conv"), "out": _after("flat")})


@network("config")
def output_that_is_not_there(layers, weights):
    return _functional({"in": [], "conv": _after("in"), "flat": _after("conv"), "out": _after("flat")}, "ghost")


@network(UnsupportedError)
def two_outputs(layers, weights):
    nodes = {"in": [], "conv": _after("in"), "flat": _after("conv"), "out": _after("flat")}
    return _functional(nodes, [["out", 0, 0], ["flat", 0, 0]])


@network("config")
def call_that_is_not_there(layers, weights):
    return _functional({"in": [], "conv": _after("in"), "flat": [[["conv", 1, 0, {}]]], "out": _after("flat")})


@network("config")
def inbound_nodes_of_numbers(layers, weights):
    return _functional({"in": [], "conv": [[1, 2]], "flat": _after("conv"), "out": _after("flat")})


@network("weights")
def weights_of_an_unused_layer(layers, weights):
    weights["ghost"] = {"kernel": np.zeros((2, 2), "f4")}


@network("weights")
def missing_bias(layers, weights):
    del weights["conv"]["bias"]


@network("weights")
def missing_layer(layers, weights):
    del weights["conv"]


@network("weights")
def misnamed_weights(layers, weights):
    weights["conv"] = {"gamma": weights["conv"]["kernel"], "beta": weights["conv"]["bias"]}


@network(ShapeError)
def transposed_dense_kernel(layers, weights):
    weights["out"]["kernel"] = weights["out"]["kernel"].T


@network(ShapeError)
def empty_kernel(layers, weights):
    weights["out"]["kernel"] = np.zeros((0, 4), "f4")


@network(UnsupportedError)
def integer_kernel(layers, weights):
    weights["out"]["kernel"] = np.ones((48, 4), "i1")


@network("not-finite")
def nan_in_a_kernel(layers, weights):
    weights["out"]["kernel"][3, 2] = np.nan


@network("config")
def negative_variance(layers, weights):
    layers.insert(1, ("BatchNormalization", {"name": "bn", "axis": 3}))
    one = np.ones(3, "f4")
    weights["bn"] = {"gamma": one, "beta": one, "moving_mean": one, "moving_variance": -one}


def _direct(expected, **options):
    def register(make):
        NETWORKS.append(Hostile(make.__name__, make, expected, options))
        return make

    return register


@_direct("json")
def configuration_that_is_no_json(folder):
    layers, weights = small()
    path = keras_file(folder / "no_json.h5", layers, weights)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", ' + '\\"' * 100_000
    return path


@_direct("architecture")
def weights_without_architecture(folder):
    layers, weights = small()
    return keras_file(folder / "weights.h5", layers, weights, full=False)


@_direct("backend")
def backend_not_told(folder):
    layers, weights = small()
    return keras_file(folder / "which.h5", layers, weights, backend=None, version="2.2.4")


@_direct("not-keras")
def hdf5_of_something_else(folder):
    path = folder / "other.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    return path


@_direct("weights")
def weight_names_of_numbers(folder):
    layers, weights = small()
    path = keras_file(folder / "numbers.h5", layers, weights)
    with h5py.File(path, "r+") as file:
        file["model_weights/conv"].attrs["weight_names"] = np.arange(2)
    return path


@_direct("weights")
def weight_name_that_climbs_out(folder):
    layers, weights = small()
    path = keras_file(folder / "climb.h5", layers, weights)
    with h5py.File(path, "r+") as file:
        file["model_weights/conv"].attrs["weight_names"] = [b"../out/out/kernel:0", b"conv/bias:0"]
    return path


@_direct("external-link")
def kernel_in_another_file(folder):
    layers, weights = small()
    path = keras_file(folder / "linked.h5", layers, weights)
    with h5py.File(path, "r+") as file:
        del file["model_weights/conv/conv/kernel:0"]
        file["model_weights/conv/conv/kernel:0"] = h5py.ExternalLink("linked.h5", "/x")
    return path


@_direct("zip")
def broken_zip(folder):
    path = folder / "broken.keras"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 400)
    return path


@_direct("zip")
def torch_archive(folder):
    path = folder / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    return path


@_direct("zip")
def zip_bomb(folder):
    path = folder / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(64 << 20))
    return path


@_direct("zip")
def zip_that_lies_about_its_size(folder):
    path = folder / "lie.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}" + " " * 1000)
        archive.writestr("model.weights.h5", b"\x89HDF")
    data = path.read_bytes()
    path.write_bytes(data.replace((1002).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    return path


@_direct("json-depth")
def zip_with_a_deep_configuration(folder):
    path = folder / "deep.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
        archive.writestr("model.weights.h5", b"\x89HDF")
    return path
