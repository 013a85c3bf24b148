"""Which images and labels a data spec gives, and what is refused."""

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from intsnn.datasets import catalogue as datasets
from intsnn.datasets import decoders
from intsnn.datasets.splitmix import shuffled
from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError, ShapeError

PERMUTATION_10 = [4, 9, 2, 5, 1, 7, 6, 0, 3, 8]
PERMUTATION_50000 = "589d6798eebd53116b5930db40ae888c5f7abcd0da9236dbbb0fc18244b2c6c7"


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("INTSNN_DATA", str(tmp_path))
    return tmp_path


# ---- digits ----------------------------------------------------------------------------------------------------------


def test_digits_are_the_published_ones():
    train, test = datasets.load("digits:train"), datasets.load("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert test.name == "digits:test" and test.shape == (1, 8, 8) and test.images.dtype == np.uint8
    assert test.labels.dtype == np.int64 and test.classes == tuple("0123456789")
    assert test.maximum == 16 and test.scale == Fraction(1, 16) and test.lossless
    images, labels = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    assert digest(images) == "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    assert digest(labels.astype(np.uint8)) == "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_first_digit_can_be_read():
    zero = datasets.load("digits:train:1")
    assert zero.labels.tolist() == [0]
    assert zero.images[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_digits_need_no_data_folder(monkeypatch):
    monkeypatch.delenv("INTSNN_DATA", raising=False)
    first = datasets.load("digits:test:7")
    assert first.name == "digits:test:7" and len(first) == 7
    assert np.array_equal(first.images, datasets.load("digits:test").images[:7])
    assert np.array_equal(datasets.load("digits:7").images, first.images)


def test_digits_equal_scikit_learn():
    published = pytest.importorskip("sklearn.datasets").load_digits()
    images = np.concatenate([datasets.load(f"digits:{part}").images for part in ("train", "test")])
    assert np.array_equal(images[:, 0], published.images)


# ---- specs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["", ":3", "nonsense", "digits:validation", "digits:-1", "digits:1.5", "digits:3:test"]
)
def test_bad_specs_list_the_names(spec):
    with pytest.raises(FormatError, match="digits, mnist, fashion-mnist, cifar10, cifar10-test1900, cifar10-jpeg"):
        datasets.load(spec)


def test_zero_or_too_many_images_are_refused():
    with pytest.raises(FormatError, match="at least 1"):
        datasets.load("digits:0")
    with pytest.raises(FormatError, match="has 360 images, 361 are asked for"):
        datasets.load("digits:361")


@pytest.mark.parametrize("name", [name for name in datasets.NAMES if "digits" not in name])
def test_missing_sets_say_where_and_how(name, root, monkeypatch):
    with pytest.raises(DataNotFoundError) as caught:
        datasets.load(name)
    assert str(root) in str(caught.value) and "INTSNN_DATA" in str(caught.value)
    monkeypatch.delenv("INTSNN_DATA")
    with pytest.raises(FileNotFoundError, match="INTSNN_DATA .*not set"):
        datasets.load(name)


def test_missing_file():
    with pytest.raises(DataNotFoundError, match="there is no file"):
        datasets.load("nowhere/x.npz:train:3")


# ---- IDX -------------------------------------------------------------------------------------------------------------


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(
    "name, folder", [("mnist", "mnist"), ("mnist", "MNIST/raw"), ("fashion-mnist", "fashion-mnist")]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(name, folder, zipped, root, images):
    place = root / folder
    place.mkdir(parents=True)
    labels = np.array([3, 1, 4, 1, 9], np.uint8)
    for file, array in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        content = idx(array)
        (place / (file + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    got = datasets.load(f"{name}:test:4")
    assert np.array_equal(got.images, images[:4, None]) and got.labels.tolist() == [3, 1, 4, 1]
    assert got.maximum == 255 and got.source == str(place)
    with pytest.raises(DataNotFoundError, match="train-images"):
        datasets.load(f"{name}:train")


def test_labels_without_images_are_no_set(root, images):
    (root / "mnist").mkdir()
    (root / "mnist" / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    with pytest.raises(DataNotFoundError):
        datasets.load("mnist")
    (root / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(ShapeError, match="5 images and 4 labels"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    "damage, code",
    [
        (lambda raw: b"\x00\x00\x0d" + raw[3:], "magic"),
        (lambda raw: raw[:3], "magic"),
        (lambda raw: raw[:-1], "size"),
        (lambda raw: raw + b"\0", "size"),
        (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "size"),
        (lambda raw: gzip.compress(raw)[:-20], "damaged"),
        (lambda raw: gzip.compress(raw)[:40] + b"\x55" * 40 + gzip.compress(raw)[80:], "damaged"),
        (lambda raw: gzip.compress(raw + bytes(1 << 20)), "size"),
    ],
)
def test_damaged_idx_files(damage, code, tmp_path, images):
    path = tmp_path / "images"
    path.write_bytes(damage(idx(images)))
    with pytest.raises(ImportRefused) as caught:
        decoders.read_idx(path, 3)
    assert caught.value.code == code and str(path) in str(caught.value)


# ---- CIFAR-10 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 6)


def write_batches(folder, batch, write):
    folder.mkdir(parents=True)
    images, labels = batch
    for i in range(1, 6):
        write(folder, f"data_batch_{i}", images[i : i + 1], labels[i : i + 1])
    write(folder, "test_batch", images, labels)


def write_binary(folder, stem, images, labels):
    records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(len(images), -1)], 1)
    (folder / f"{stem}.bin").write_bytes(records.tobytes())


def write_pickle(folder, stem, images, labels):
    content = {b"data": images.reshape(len(images), -1), b"labels": labels.tolist(), b"batch_label": b"x"}
    (folder / stem).write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize(
    "folder, write",
    [
        ("cifar10/cifar-10-batches-bin", write_binary),
        ("cifar-10-batches-bin", write_binary),
        ("cifar10/cifar-10-batches-py", write_pickle),
        ("cifar-10-batches-py", write_pickle),
    ],
)
def test_cifar10_batches(folder, write, root, batch):
    write_batches(root / folder, batch, write)
    images, labels = batch
    test, train = datasets.load("cifar10"), datasets.load("cifar10:train")
    assert np.array_equal(test.images, images) and np.array_equal(test.labels, labels)
    assert np.array_equal(train.images, images[1:]) and np.array_equal(train.labels, labels[1:])
    assert test.classes[3] == "cat" and test.maximum == 255


def python2_batch(images, labels):
    """The opcodes that Python 2 wrote: byte strings, numpy.core, numbers for truth values."""

    def text(value):
        return b"U" + bytes((len(value),)) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + b"M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"I00\nT" + struct.pack("<i", images.size) + images.tobytes() + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes((label,)) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def test_cifar10_batch_of_python_2(tmp_path, batch):
    images, labels = batch
    path = tmp_path / "test_batch"
    path.write_bytes(python2_batch(images, labels.tolist()))
    got = decoders.read_cifar_pickle(path)
    assert np.array_equal(got[0], images) and np.array_equal(got[1], labels)


class Runs:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\x80\x02}.",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": [1], "labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.int16), "labels": [1]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, protocol=2),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 3072), object), "labels": [1]}, protocol=2),
        pickle.dumps({"data": bytearray(10), "labels": [1]}, protocol=5),
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo index that would take gigabytes
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RK\x05b.",
        b"\x80\x02}(U\x04datacnumpy\nndarray\n)RK\x05bU\x06labels](K\x01eu.",
    ],
    ids=range(13),
)
def test_other_pickles_are_refused(content, tmp_path):
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match="no python CIFAR-10 batch"):
        decoders.read_cifar_pickle(path)


@pytest.mark.parametrize(
    "content, reason",
    [
        (pickle.dumps(bytearray(10), protocol=5), "opcode BYTEARRAY8"),
        (pickle.dumps(Fraction(1, 2), protocol=4).replace(b"R", b"\x81"), "opcode NEWOBJ"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "absurd memo index"),
    ],
    ids=["bytearray", "newobj", "memo"],
)
def test_pickles_are_looked_through_before_they_are_read(content, reason, tmp_path):
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match=reason):
        decoders.read_cifar_pickle(path)


def test_no_pickle_runs_anything(tmp_path, batch):
    path, trace = tmp_path / "test_batch", tmp_path / "trace"
    content = {"data": batch[0].reshape(6, -1), "labels": batch[1].tolist(), "more": Runs(trace)}
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ImportRefused, match="open"):
        decoders.read_cifar_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3074), b"\x0a" + bytes(3072)], ids=range(4))
def test_damaged_binary_batches(content, tmp_path):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(ImportRefused):
        decoders.read_cifar_binary(path)


def test_cifar10_part(root, batch):
    (root / "cifar10").mkdir()
    images, labels = batch
    np.savez_compressed(root / "cifar10" / "cifar10_test1900.npz", x=images, y=labels)
    np.savez(root / "cifar10" / "cifar10_train4000.npz", x=images[::-1], y=labels[::-1])
    assert np.array_equal(datasets.load("cifar10-test1900").images, images)
    assert np.array_equal(datasets.load("cifar10-test1900:train:2").images, images[:3:-1])
    np.savez(root / "cifar10" / "cifar10_test1900.npz", x=images.astype(np.int16), y=labels)
    with pytest.raises(ImportRefused, match="uint8"):
        datasets.load("cifar10-test1900")


def jpegs(images):
    image = pytest.importorskip("PIL.Image", reason="needs pillow (the extra `images`)")
    files = []
    for picture in images:
        file = io.BytesIO()
        image.fromarray(picture).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def write_jpegs(root, files, changes=()):
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0] + [len(file) for file in files]),
        "labels": np.arange(len(files), dtype=np.uint8),
    }
    (root / "cifar10").mkdir(exist_ok=True)
    np.savez(root / "cifar10" / "cifar10_jpeg_test.npz", **arrays | dict(changes))


def test_cifar10_jpeg_comes_in_the_fixed_order(root):
    flat = [np.full((32, 32, 3), 20 * i, np.uint8) for i in range(10)]  # one grey survives JPEG unchanged
    files = jpegs(flat)
    write_jpegs(root, files)
    order = shuffled(10, 0)
    got = datasets.load("cifar10-jpeg")
    assert got.labels.tolist() == order.tolist()
    assert got.images[:, :, 0, 0].tolist() == [[20 * i] * 3 for i in order.tolist()]
    assert not got.lossless and "shuffled(10, 0)" in got.notes
    broken = [file if i in order[:4] else b"\xff\xd8 no picture" for i, file in enumerate(files)]
    write_jpegs(root, broken)
    assert np.array_equal(datasets.load("cifar10-jpeg:4").images, got.images[:4])  # only these are decoded
    with pytest.raises(ImportRefused, match="no sound JPEG"):
        datasets.load("cifar10-jpeg:5")
    with pytest.raises(FormatError, match="has 10 images, 11"):
        datasets.load("cifar10-jpeg:11")


def test_damaged_jpeg_sets(root):
    files = jpegs([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 16, 3), np.uint8)])
    good = np.cumsum([0] + [len(file) for file in files])
    write_jpegs(root, files)
    with pytest.raises(ImportRefused, match="16x32 pixels"):
        datasets.load("cifar10-jpeg")
    for changes in (
        {"offsets": good[:-1]},
        {"offsets": good[::-1]},
        {"offsets": good + 1},
        {"offsets": good.astype(float)},
        {"labels": np.array([0, 10])},
        {"jpeg": np.zeros((2, 2), np.uint8)},
    ):
        write_jpegs(root, files, changes)
        with pytest.raises(ImportRefused):
            datasets.load("cifar10-jpeg")


def test_permutation_is_fixed():
    assert shuffled(10, 0).tolist() == PERMUTATION_10
    assert digest(shuffled(50_000, 0)) == PERMUTATION_50000
    assert sorted(shuffled(1000, 3).tolist()) == list(range(1000))
    assert shuffled(10, 1).tolist() != PERMUTATION_10


def test_permutation_uses_splitmix64():
    """The first words of SplitMix64 from seed 0, as published with the generator, order three and two places."""
    first, second = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4
    order = [0, 1, 2]
    for i, word in ((2, first), (1, second)):
        j = word * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    assert shuffled(3, 0).tolist() == order


# ---- files of the user -----------------------------------------------------------------------------------------------


@pytest.fixture
def codes():
    return np.random.default_rng(2).integers(0, 200, (6, 2, 4, 5), dtype=np.uint8)


def test_npz_names_and_parts(tmp_path, codes):
    path = tmp_path / "a:b.npz"  # a colon in a path does no harm
    labels = np.array([0, 1, 2, 0, 1, 2])
    np.savez(path, x=codes, y=labels, x_train=codes[:1], y_train=labels[:1])
    got = datasets.load(f"{path}:4")
    assert np.array_equal(got.images, codes[:4]) and got.labels.tolist() == [0, 1, 2, 0]
    assert got.maximum == 255 and got.classes == ("0", "1", "2") and got.name == f"{path}:4"
    assert len(datasets.load(f"{path}:train")) == 1 and len(datasets.load(path)) == 6
    with pytest.raises(FormatError, match="no array x_test"):
        datasets.load(f"{path}:test")
    np.savez(path, images=codes[:, 0], labels=labels[:, None], maximum=200)
    got = datasets.load(path)
    assert got.shape == (1, 4, 5) and got.maximum == 200 and got.labels.shape == (6,)
    np.savez(path, x=codes.reshape(6, -1).astype(np.uint16))
    got = datasets.load(path)
    assert got.shape == (40,) and got.maximum == 255 and got.labels is None and got.classes == ()
    np.savez(path, x_test=codes, y_test=labels)
    assert len(datasets.load(path)) == len(datasets.load(f"{path}:test")) == 6


def test_fortran_order_and_big_endian(tmp_path, codes):
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(codes.astype(">u2")), y=np.zeros(6, ">i4"))
    got = datasets.load(tmp_path / "f.npz")
    assert np.array_equal(got.images, codes) and got.images.flags.c_contiguous and got.images.dtype.isnative


def test_channels_last_is_never_guessed(tmp_path, codes):
    path = tmp_path / "last.npz"
    last = np.ascontiguousarray(np.repeat(codes, 2, 1)[:, :3].transpose(0, 3, 2, 1))
    np.savez(path, x=last)
    with pytest.raises(ShapeError, match="layout"):
        datasets.load(path)
    np.savez(path, x=last, layout="NHWC")
    assert np.array_equal(datasets.load(path).images, last.transpose(0, 3, 1, 2))
    np.savez(path, x=last, layout="CHWN")
    with pytest.raises(FormatError, match="NCHW or NHWC"):
        datasets.load(path)


@pytest.mark.parametrize(
    "arrays, error",
    [
        ({"z": np.zeros(3, np.uint8)}, FormatError),
        ({"x": np.zeros((3, 1, 2, 2))}, FormatError),
        ({"x": np.zeros(3, np.uint8)}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.zeros(4, np.int64)}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.zeros((3, 1, 1))}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.array([0, 1, np.nan])}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.array(["0", "1", "2"])}, ShapeError),
        ({"x": np.zeros((0, 2), np.uint8), "y": np.zeros(0, np.int64)}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.array([0, 1, -1])}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.array([0, 1, 1 << 40])}, ShapeError),
        ({"x": np.zeros((3, 2), np.uint8), "maximum": 0}, FormatError),
        ({"x": np.zeros((3, 2), np.uint8), "maximum": 0.5}, FormatError),
        ({"x": np.array([{}, {}], object)}, ImportRefused),
    ],
)
def test_files_that_hold_no_images(arrays, error, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(error) as caught:
        datasets.load(tmp_path / "bad.npz")
    assert isinstance(caught.value, IntsnnError) and "\n" not in str(caught.value)


def test_arrays_of_objects_are_named(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    with pytest.raises(ImportRefused, match="x holds Python objects"):
        datasets.load(tmp_path / "objects.npz")


def npy(header, body):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"no array",
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 4)}", bytes(8)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4)}", bytes(8)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 4)}", bytes(8)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}", bytes(8)),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", pickle.dumps([1])),
        npy("__import__('os')", bytes(8)),
    ],
    ids=range(8),
)
def test_hostile_arrays(member, tmp_path):
    path = tmp_path / "hostile.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(ImportRefused):
        datasets.load(path)


def test_damaged_archives(tmp_path, codes):
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, x=codes)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:80] + bytes(40) + whole[120:]):
        path.write_bytes(content)
        with pytest.raises(ImportRefused):
            datasets.load(path)
    path.write_bytes(whole)
    assert np.array_equal(datasets.load(path).images, codes)


def test_hdf5_file(tmp_path, codes):
    from intsnn.files.hdf5 import write_tree

    path = tmp_path / "mine.h5"
    write_tree(path, {"x": codes, "y": np.arange(6)})
    got = datasets.load(f"{path}:5")
    assert got.images.flags.writeable
    assert np.array_equal(got.images, codes[:5]) and got.labels.tolist() == [0, 1, 2, 3, 4]


# ---- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, shape, labels",
    [
        ("mnist", (10000, 1, 28, 28), [7, 2, 1, 0, 4]),
        ("mnist:train", (60000, 1, 28, 28), [5, 0, 4, 1, 9]),
        ("fashion-mnist", (10000, 1, 28, 28), [9, 2, 1, 1, 6]),
        ("cifar10-test1900", (1900, 3, 32, 32), [3, 8, 8, 0, 6]),
        ("cifar10-test1900:train", (4000, 3, 32, 32), [6, 9, 9, 4, 1]),
    ],
)
def test_real_sets(spec, shape, labels, data_root):
    got = datasets.load(spec)
    assert got.images.shape == shape and got.images.dtype == np.uint8 and got.labels[:5].tolist() == labels
    assert set(got.labels.tolist()) == set(range(10)) and got.images.max() == 255


def test_real_jpeg_set(data_root):
    pytest.importorskip("PIL", reason="needs pillow (the extra `images`)")
    got = datasets.load("cifar10-jpeg:40")
    assert got.images.shape == (40, 3, 32, 32) and got.labels[:8].tolist() == [1, 2, 7, 1, 0, 3, 8, 9]
