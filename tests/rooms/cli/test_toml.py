"""TOML that describes sweeps and recipes: any value at any key is taken or refused in one sentence."""

import signal
from dataclasses import fields

import pytest
from command_line import bad

from intsnn.bench.sweep.grid import Grid, read_toml
from intsnn.errors import FormatError, IntsnnError
from intsnn.learning.rule import Rule, Schedule, Widths, fraction
from intsnn.models.learning.decolle_recipes import Recipe, read_recipe
from intsnn.network.quantised import InputScale

VALUES = [
    "1", "0", "-1", "true", "1.5", "nan", "inf", '""', '"x"', '"a\\u0000b"', '"levels"', '"all"', '"1/0"',
    '"1e999999999"', '"1e-999999999"', "[]", "[[8,4,8]]", "[1,2]", '["a"]', "[nan]", "[1,true,1.0]", "[{}]", "{}",
    "{a=1}", '{file="a"}', '[{file="x.h5"},{file="x.h5"}]', "[{file=1}]", '[{file="a.h5", name="\\u0000"}]',
    "1979-05-27", "07:32:00", "[1979-05-27T07:32:00Z]", "0x" + "f" * 5000, "9" * 5000, "1" + "0" * 40, "[[[]]]",
    '["digits:0"]', '["qffs+v-negative=nan"]', "[{conv=4,kernel=3}]", '[{conv="x"}]', "[{conv=[1]}]", "[{dense=nan}]",
    "[{dense=4,more=1}]", "[{conv=4,kernel=-3,padding=1.5}]",
]  # fmt: skip
SWEEP = [f"{item.name} = {{}}" for item in fields(Grid)] + ["unknown = {}"]
BASE = 'base = "decolle-digits"\n'
RECIPE = [f"{BASE}{item.name} = {{}}" for item in fields(Recipe)] + ["base = {}", "unknown = {}", "data = {}"]
RECIPE += [f"{BASE}[rule]\n{name} = {{}}" for name in [item.name for item in fields(Rule)] + ["mode", "unknown"]]
RECIPE += [f"{BASE}[schedule]\n{name} = {{}}" for name in [item.name for item in fields(Schedule)] + ["unknown"]]
RECIPE += [f"{BASE}[rule.widths]\n{name} = {{}}" for name in [item.name for item in fields(Widths)] + ["X"]]


@pytest.mark.parametrize("reader, lines", [(read_toml, SWEEP), (read_recipe, RECIPE)], ids=["sweep", "recipe"])
def test_any_value_at_any_key(reader, lines, tmp_path):
    path, refused = tmp_path / "a.toml", 0
    for line in lines:
        for value in VALUES:
            path.write_text(line.replace("{}", value, 1) if "= {}" in line else line, encoding="utf-8")
            try:
                reader(path)
            except IntsnnError as error:
                refused += 1
                assert "a.toml" in str(error) and "\n" not in str(error) and len(str(error)) < 1000, line
    assert refused > len(lines) * len(VALUES) // 2


@pytest.mark.parametrize("text", ["weights = " + "[" * 5000, "\ufeff", "a = ", "weights = [1\n", "[rule\n"])
@pytest.mark.parametrize("reader", [read_toml, read_recipe])
def test_text_that_is_no_toml(reader, text, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match="no TOML"):
        reader(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match=r"a\.toml"):
        reader(path)


@pytest.mark.parametrize("line", ["weights = [[8,4,8]]", "seeds = [{}]", "data = [[]]", "t_drive = [[1]]"])
def test_the_command_says_so(line, tmp_path):
    (tmp_path / "a.toml").write_text(line)
    assert line.split()[0] in bad(2, "bench", "--config", tmp_path / "a.toml")


def test_values_that_differ_only_in_kind_stay_apart():
    """``true`` is not 1: it is refused, not swallowed by a 1 before it."""
    assert Grid(weights=(8, 4, 8)).weights == (8, 4)
    with pytest.raises(FormatError, match="True"):
        Grid(weights=(1, True))
    with pytest.raises(FormatError, match=r"1\.0"):
        Grid(weights=(1, 1.0))


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="needs an alarm")
@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "-3.5E+88888888 "])
def test_numbers_of_any_size_take_no_time(text):
    def late(*_):
        raise AssertionError("it was written out")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        with pytest.raises(FormatError):
            fraction(text, "it")
        with pytest.raises(FormatError):
            InputScale.parse(text)
        with pytest.raises(FormatError):
            InputScale.parse(f"1,{text}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    for text in ("1e400", "1e-400", "1" * 320, "1,1e400"):  # no float is as large, or as small
        with pytest.raises(FormatError):
            InputScale.parse(text)
    assert fraction("2.5e-3", "it") * 400 == 1 and InputScale.parse("1e-2").scale * 100 == 1
