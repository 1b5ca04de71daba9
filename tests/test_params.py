"""lib.params: what is accepted becomes one canonical form; what is not is refused with the key and the remedy."""
import numpy as np
import pytest
import yaml
from pydantic import Field, model_validator

from lib.params import Count, Options, ParameterError, Params, check, from_cell, load, parse_overrides, read_yaml


class Example(Params):
    seeds: int
    rate: float
    mode: str
    verbose: bool
    grid: tuple[float, ...]


GOOD = {"seeds": 3, "rate": 0.1, "mode": "a", "verbose": True, "grid": [0.1, 1]}


def test_int_becomes_float_where_a_float_is_meant():
    params = check(Example, {**GOOD, "rate": 1}, "here")
    assert params.rate == 1.0 and type(params.rate) is float
    assert params.grid == (0.1, 1.0) and type(params.grid[1]) is float


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        check(Example, GOOD, "here").seeds = 4


def test_replace_checks_again():
    params = check(Example, GOOD, "here")
    assert params.replace(seeds=5).seeds == 5
    with pytest.raises(ParameterError, match="seeds: .*'5'"):
        params.replace(seeds="5")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rate", "1e-3", "YAML reads 1e-3 as text, write 1.0e-3"),
        ("rate", "2.5E4", "write 2.5e\\+4"),
        ("rate", True, "put quotes round a word"),
        ("rate", float("nan"), "finite"),
        ("rate", float("inf"), "finite"),
        ("rate", None, "valid number, got None"),
        ("mode", False, "valid string, got False"),
        ("mode", 1, "valid string, got 1"),
        ("seeds", 3.0, "valid integer, got 3.0"),
        ("seeds", True, "valid integer, got True"),
        ("verbose", 1, "valid boolean, got 1"),
        ("grid", 0.1, "valid array"),
        ("grid", [0.1, "1e-4"], r"grid\[1\]: .*write 1.0e-4"),
        ("rate", object(), "no plain form"),
    ],
)
def test_wrong_type_is_refused(name, value, message):
    with pytest.raises(ParameterError, match=message):
        check(Example, {**GOOD, name: value}, "params/x.yaml")


def test_every_problem_is_listed_with_its_place():
    with pytest.raises(ParameterError) as error:
        check(Example, {**GOOD, "rate": "x", "seeds": "y"}, "params/x.yaml")
    assert [line.split(": ")[:2] for line in str(error.value).splitlines()] == [
        ["params/x.yaml", "seeds"],
        ["params/x.yaml", "rate"],
    ]


def test_values_that_do_not_go_together_are_refused_in_their_own_words_alone():
    class Pair(Params):
        low: int
        high: int

        @model_validator(mode="after")
        def _ordered(self):
            if self.low > self.high:
                raise ValueError("low must be at most high")
            return self

    with pytest.raises(ParameterError) as error:
        check(Pair, {"low": 2, "high": 1}, "params/x.yaml")
    assert str(error.value) == "params/x.yaml: low must be at most high"


def test_from_cell_reads_a_namespace_and_ignores_what_is_not_a_parameter():
    assert from_cell(Example, {**GOOD, "np": object()}) == check(Example, GOOD, "x")
    with pytest.raises(ParameterError, match="parameters cell: missing parameter seeds"):
        from_cell(Example, {k: v for k, v in GOOD.items() if k != "seeds"})


def test_overrides_are_read_as_yaml():
    assert parse_overrides(["a=3", "b=0.5", "c=[1, 2]", "d=x=y"]) == {"a": 3, "b": 0.5, "c": [1, 2], "d": "x=y"}
    for bad in ["a", "=3", "a-b=3", "a=[1"]:
        with pytest.raises(ParameterError, match="-p"):
            parse_overrides([bad])


MISREAD = [
    ("2024-01-01", "reads 2024-01-01 as a date; put quotes"), ("2024-01-01 10:00:00", "as a date"),
    ("!!binary aGk=", "cannot be !!binary"), ("!!set {a, b}", "cannot be !!set"), ("!!omap [a: 1]", "cannot be !!omap"),
    ("010", "reads 010 to another base; write a decimal number"), ("-007", "another base"), ("1:30", "another base"),
    ("190:20:30.15", "another base"), ("[1, 010]", "another base"),
    ("[[010, 2]]", "another base"), ("[[1], [1:30]]", "another base"),
]


@pytest.mark.parametrize(("text", "message"), MISREAD)
def test_what_yaml_reads_as_something_else_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "quick.yaml"
    path.write_text(f"seeds: 3\nstarted: {text}\n")
    with pytest.raises(ParameterError, match=f"quick.yaml: started: .*{message}.* .line 2"):
        read_yaml(path)
    with pytest.raises(ParameterError, match=f"-p started=.*: started: .*{message}"):
        parse_overrides([f"started={text}"])


@pytest.mark.parametrize("text", ["'2024-01-01'", "'010'", "'1:30'", "v1:30", "0x1F", "1_000", "-3", "0", "[1, 2]"])
def test_what_looks_like_what_it_is_is_taken_as_before(text):
    assert parse_overrides([f"a={text}"]) == {"a": yaml.safe_load(text)}


def test_a_parameter_file_may_start_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfseeds: 3\r\nmode: a\r\n")
    assert read_yaml(path) == {"seeds": 3, "mode": "a"}


def test_file_faults_name_the_file(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(ParameterError, match="x.yaml: no such parameter file"):
        read_yaml(path)
    for text, message in [
        ("a: [1", "not readable as YAML"),
        ("- 1\n", "name: value"),
        ("1: 2\n", "name: value"),
        ("", "name: value"),
        ("a: 1\na: 2\n", "key 'a' is given twice"),
    ]:
        path.write_text(text)
        with pytest.raises(ParameterError, match=f"x.yaml: .*{message}"):
            read_yaml(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match="not readable"):
        read_yaml(path)


def test_load_puts_overrides_on_top(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("seeds: 3\nrate: 1\nmode: a\nverbose: true\ngrid: [1, 2]\n")
    assert load(Example, path, {"seeds": 9}).seeds == 9
    with pytest.raises(ParameterError, match="with -p: seeds"):
        load(Example, path, {"seeds": "9"})


class Training(Options):
    """How it trains."""

    steps: Count = Field(20, description="how many")
    warmup: float = Field(default_factory=lambda given: given["steps"] / 10, description="how many of them")
    sizes: tuple[int, ...] = ()


def test_options_have_defaults_take_numpy_numbers_and_explain_themselves():
    assert Training().warmup == 2 and Training(steps=50).replace(steps=10).warmup == 5
    numbers = Training(steps=np.int64(3), warmup=np.float32(0.5), sizes=np.array([1, 2]))
    assert numbers == Training(steps=3, warmup=0.5, sizes=[1, 2]) and type(numbers.steps) is int
    assert Training.__doc__ == "How it trains.\n\nOptions:\n    steps: how many\n    warmup: how many of them"


def test_every_refused_option_has_a_line_and_the_names_are_given():
    with pytest.raises(ParameterError) as caught:
        Training(steps=0, sizes="x", colour="red")
    steps, sizes, colour = str(caught.value).splitlines()  # none about warmup, which follows from steps
    assert steps == "Training: steps: input should be greater than or equal to 1, got 0 (int)"
    assert sizes.startswith("Training: sizes: ")
    assert colour == "Training has no option colour; it has steps, warmup, sizes"
    with pytest.raises(ValueError, match="frozen"):
        Training().steps = 3
