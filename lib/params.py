"""Strict parameters: a YAML file becomes a frozen object, or one clear error before any work starts.

YAML alone is too forgiving: `1e-3` arrives as a string, `off` as False, `010` as 8, `1:30` as 90, a repeated key
silently wins, and papermill only logs a name it does not know. Here each of these is refused with the file, the key and
the remedy.
"""
from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

P = TypeVar("P", bound="Params")
Count, Share = Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0, le=1)]
Weight, Positive = Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]


class ParameterError(ValueError):
    """A parameter or an option is not what is accepted; the message names the file or owner, the key, the remedy."""


class Params(BaseModel):
    """Base of every study's parameters: frozen, strictly typed, unknown names refused.

    Fields are int, float, bool, str or tuples of them. An int is accepted where a float is meant and becomes one,
    so that `1` and `1.0` give the same content key.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """The same parameters with some values changed, checked again."""
        return check(type(self), {**self.model_dump(), **changes}, where="replace()")

    def view(self, group: type[P]) -> P:
        """The fields of `group`, a class these parameters inherit from: what one stage of a study takes."""
        return group.model_construct(**{name: getattr(self, name) for name in group.model_fields})


class Options(BaseModel):
    """Base of the options of a library's object: as `Params`, with defaults; NumPy numbers and lists are taken too.

    ParameterError says every problem in a line of its own, and which options there are.
    """

    model_config = Params.model_config
    owner: ClassVar[str] = ""
    """Whose options these are, as errors call it; the class's name where it says no other."""

    def __init__(self, **given: Any):
        try:
            super().__init__(**{name: _plain(value) for name, value in given.items()})
        except ValidationError as error:
            problems = [self._problem(one) for one in error.errors() if one["type"] != _NOT_CALLED]
            raise ParameterError("\n".join(problems)) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add what each option means to the docstring."""
        fields = cls.model_fields.items()
        told = [f"    {name}: {field.description}" for name, field in fields if field.description]
        cls.owner = cls.__dict__.get("owner", cls.__name__)
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), *(["", "Options:"] if told else []), *told])

    def replace(self, **changes: Any) -> Self:
        """The same options with some values changed, checked again."""
        return type(self)(**{**self.model_dump(), **changes})

    @classmethod
    def _problem(cls, error: Any) -> str:
        match error["type"], error["loc"]:
            case "extra_forbidden", (name, *_):
                return f"{cls.owner} has no option {name}; it has {', '.join(cls.model_fields) or 'none'}"
            case "missing", (name, *_):
                return f"{cls.owner} needs {name}"
            case "value_error", ():
                return error["msg"].removeprefix("Value error, ")
        return f"{cls.owner}: {_value_problem(error)}"


_NOT_CALLED = "default_factory_not_called"
"""Pydantic's complaint that a default follows from an option which is refused already."""


def _plain(value: Any) -> Any:
    """Python's own numbers for NumPy's, tuples for lists and arrays."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a parameter file, unchecked but free of repeated keys and of what YAML reads unexpectedly."""
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml"))
        raise ParameterError(f"{path}: no such parameter file; here are: {', '.join(near) or 'none'}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_StrictLoader)
    except yaml.constructor.ConstructorError as error:
        raise ParameterError(f"{path}: {error.problem} (line {error.problem_mark.line + 1})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ParameterError(f"{path}: expected lines of the form `name: value`")
    return data


def parse_overrides(items: list[str]) -> dict[str, Any]:
    """`name=value` texts as a mapping; values are read as YAML, as in a parameter file."""
    overrides: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ParameterError(f"-p {item}: expected name=value, for example -p seeds=3")
        try:
            overrides |= _StrictLoader(text).named(name.strip())
        except yaml.constructor.ConstructorError as error:
            raise ParameterError(f"-p {item}: {error.problem}") from None
        except yaml.YAMLError:
            raise ParameterError(f"-p {item}: {text!r} is not a YAML value; quote it for the shell") from None
    return overrides


def check(model: type[P], values: Mapping[str, Any], where: str | Path) -> P:
    """`values` as a `model`, every field given (a profile states everything it uses) and nothing else.

    ParameterError lists every problem, one line each, and blames `where`, usually the file.
    """
    problems = _name_problems(model, values)
    if not problems:
        try:
            # JSON has no tuples: in JSON mode a YAML list is accepted for a tuple field, all else stays strict.
            return model.model_validate_json(json.dumps(dict(values)))
        except ValidationError as error:
            problems = [_value_problem(e) + _remedy(e["input"]) for e in error.errors()]
        except (TypeError, ValueError) as error:
            problems = [f"a value has no plain form: {error}"]
    raise ParameterError("\n".join(f"{where}: {problem}" for problem in problems))


def load(model: type[P], path: Path, overrides: Mapping[str, Any] | None = None) -> P:
    """The parameters in a YAML file, with overrides on top, checked."""
    values = {**read_yaml(path), **(overrides or {})}
    return check(model, values, f"{path} with -p" if overrides else path)


def from_cell(model: type[P], namespace: Mapping[str, Any], given: Collection[str] = ()) -> P:
    """The notebook's parameters cell as a `model`; call as `params = from_cell(Params, globals())`.

    Args:
        given: names that were given as parameters on purpose, so that one which is none is refused.
    """
    present = {name: namespace[name] for name in {**model.model_fields, **dict.fromkeys(given)} if name in namespace}
    return check(model, present, "parameters cell")


def meant(name: str, names: Iterable[str]) -> str:
    """"did you mean ...? " where one of the names is close to what was written, else nothing."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _name_problems(model: type[Params], values: Mapping[str, Any]) -> list[str]:
    accepted = list(model.model_fields)
    problems = []
    for name in values:
        if name not in accepted:
            problems.append(f"unknown parameter {name}; {meant(name, accepted)}accepted names: {', '.join(accepted)}")
    return problems + [f"missing parameter {name}" for name in accepted if name not in values]


def _value_problem(error: Any) -> str:
    message, given = error["msg"].removeprefix("Value error, "), error["input"]
    if not error["loc"]:  # of values that do not go together, all of which would be told
        return message
    name, *place = error["loc"]
    where = f"{name}{''.join(f'[{i}]' for i in place)}"
    return f"{where}: {message[:1].lower()}{message[1:]}, got {given!r} ({type(given).__name__})"


def _remedy(given: Any) -> str:
    if isinstance(given, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", given):
        mantissa, exponent = re.split("[eE]", given)
        dotted = mantissa if "." in mantissa else f"{mantissa}.0"
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"; YAML reads {given} as text, write {dotted}e{sign}"
    if isinstance(given, bool):
        return "; YAML reads on/off/yes/no as true/false, put quotes round a word"
    return ""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, and a scalar that YAML 1.1 reads as what it does not look like."""

    def named(self, name: str) -> dict[str, Any]:
        """The one value of this text as the value of `name`."""
        value = self.get_single_node() or yaml.ScalarNode("tag:yaml.org,2002:null", "")
        key = yaml.ScalarNode("tag:yaml.org,2002:str", name)
        return self.construct_document(yaml.MappingNode("tag:yaml.org,2002:map", [(key, value)]))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, value) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            for each in _nodes(value):
                if told := _misread(each):
                    raise yaml.constructor.ConstructorError(None, None, f"{key}: {told}", each.start_mark)
        return super().construct_mapping(node, deep)


def _nodes(node: yaml.Node, above: tuple[yaml.Node, ...] = ()) -> Iterator[yaml.Node]:
    """A value, and all that is in it where it is a list."""
    yield node
    for item in node.value if isinstance(node, yaml.SequenceNode) and node not in above else ():
        yield from _nodes(item, (*above, node))


def _misread(node: yaml.Node) -> str:
    """Why a value is refused, empty where it is read as it looks."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind in ("binary", "set", "omap", "pairs"):
        return f"a parameter cannot be !!{kind}; give a number, a word, true or false, or a list of such"
    if kind == "timestamp":
        return f"YAML reads {text} as a date; put quotes round it"
    if (kind == "int" and not re.fullmatch(_WHOLE, text)) or (kind == "float" and ":" in text):
        return f"YAML reads {text} to another base; write a decimal number, or put quotes round a word"
    return ""


_WHOLE = r"[-+]?(0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+)"
"""Whole numbers that are what they look like: YAML 1.1 also has `010` for 8 and `1:30` for 90."""
