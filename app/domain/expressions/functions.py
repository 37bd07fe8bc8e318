"""The functions of the language that need no laziness. All are pure; arguments are known and revealed."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import orjson

from app.domain.expressions import operators
from app.domain.expressions.budget import Budget, is_integer, type_name
from app.domain.expressions.errors import ExpressionError
from app.domain.values import Value

T = TypeVar("T")
Function = Callable[["Arguments"], Value]
_FORMAT = re.compile(r"%(?:%|s|d|x|(?:\.(\d{1,2}))?f)")
_TRUTH = {"true": True, "false": False}


class Arguments:
    """The arguments of one call, with the means to complain about them."""

    def __init__(self, name: str, values: list[Value], budget: Budget, position: int) -> None:
        self.name, self.values, self.budget, self.position = name, values, budget, position

    def __len__(self) -> int:
        return len(self.values)

    def error(self, message: str) -> ExpressionError:
        """An error that names the function and where it stands."""
        return ExpressionError(f"{self.name}() at {self.position}: {message}", position=self.position)

    def text(self, index: int) -> str:
        return self._of_type(index, str, "a string")

    def items(self, index: int) -> list[Value]:
        return self._of_type(index, list, "a list")

    def mapping(self, index: int) -> Mapping[str, Value]:
        return self._of_type(index, Mapping, "a map")  # type: ignore[type-abstract]

    def build(self, size: int) -> None:
        """Charge a value that is about to be made."""
        self.budget.build(size, self.position)

    def _of_type(self, index: int, kind: type[T], wanted: str) -> T:
        value = self.values[index]
        if not isinstance(value, kind):
            message = f"{wanted} is needed, not {type_name(value)}"
            raise self.error(message)
        return value


def text_of(value: Value, position: int) -> str:
    """A scalar as text, numbers as in JSON. Raises ExpressionError for null, lists and maps."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(operators.integer(value, position))
    if isinstance(value, float):
        return repr(value)
    message = f"{type_name(value)} cannot become part of a text"
    raise ExpressionError(message, position=position)


def _size(call: Arguments) -> Value:
    value = call.values[0]
    if isinstance(value, (str, list, Mapping)):
        return len(value)
    message = f"a string, a list or a map is needed, not {type_name(value)}"
    raise call.error(message)


def _int(call: Arguments) -> Value:
    value = call.values[0]
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        return operators.integer(int(value), call.position)
    if isinstance(value, float) and math.isfinite(value):
        return operators.integer(math.trunc(value), call.position)
    if is_integer(value):
        return operators.integer(value, call.position)
    message = f"{type_name(value)} that is no whole number cannot become an int"
    raise call.error(message)


def _double(call: Arguments) -> Value:
    value = call.values[0]
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", value):
        return operators.double(float(value), call.position)
    if isinstance(value, float) or is_integer(value):
        return float(operators.integer(value, call.position)) if is_integer(value) else value
    message = f"{type_name(value)} that is no number cannot become a double"
    raise call.error(message)


def _bool(call: Arguments) -> Value:
    value = call.values[0]
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _TRUTH:
        return _TRUTH[value]
    message = "only true, false, 'true' and 'false' are bools"
    raise call.error(message)


def _replace(call: Arguments) -> Value:
    text, old, new = call.text(0), call.text(1), call.text(2)
    if not old:
        message = "the text to be replaced is empty"
        raise call.error(message)
    call.build(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _split(call: Arguments) -> Value:
    text, separator = call.text(0), call.text(1)
    if not separator:
        message = "the separator is empty"
        raise call.error(message)
    call.build(len(text))
    return text.split(separator)


def _join(call: Arguments) -> Value:
    separator = call.text(1) if len(call) > 1 else ""
    parts = [text_of(item, call.position) for item in call.items(0)]
    call.build(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def _extreme(call: Arguments) -> Value:
    candidates = call.items(0) if len(call) == 1 else call.values
    if not candidates:
        message = "there is nothing to choose from"
        raise call.error(message)
    best = candidates[0]
    operators.compare("<", best, best, call.position)
    for candidate in candidates[1:]:
        if operators.compare("<" if call.name == "min" else ">", candidate, best, call.position):
            best = candidate
    return best


def _abs(call: Arguments) -> Value:
    value = call.values[0]
    if isinstance(value, float):
        return abs(value)
    if is_integer(value):
        return operators.integer(abs(value), call.position)
    message = f"a number is needed, not {type_name(value)}"
    raise call.error(message)


def _merge(call: Arguments) -> Value:
    maps = [call.mapping(index) for index in range(len(call))]
    call.build(sum(map(len, maps)))
    return {key: value for one in maps for key, value in one.items()}


def _concat(call: Arguments) -> Value:
    lists = [call.items(index) for index in range(len(call))]
    call.build(sum(map(len, lists)))
    return [item for one in lists for item in one]


def _to_json(call: Arguments) -> Value:
    # At most six characters stand for one in JSON (\u0000), and as many again for quotes and commas.
    try:
        encoded = orjson.dumps(call.values[0], option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        message = "the value cannot be written as JSON"
        raise call.error(message) from error
    call.build(len(encoded))
    return encoded.decode()


def _from_json(call: Arguments) -> Value:
    text = call.text(0)
    call.build(len(text))
    try:
        value = orjson.loads(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        message = "the text is no JSON"
        raise call.error(message) from error
    call.budget.read(value, call.position)
    return value


def _base64(call: Arguments) -> Value:
    encoded = call.text(0).encode("utf-8", "surrogatepass")
    call.build(len(encoded) * 4 // 3 + 4)
    return base64.b64encode(encoded).decode()


def _sha256(call: Arguments) -> Value:
    return hashlib.sha256(call.text(0).encode("utf-8", "surrogatepass")).hexdigest()


def _format(call: Arguments) -> Value:
    template, values = call.text(0), list(reversed(call.items(1)))
    parts: list[str] = []
    position = 0
    while position < len(template):
        percent = template.find("%", position)
        if percent < 0:
            break
        match = _FORMAT.match(template, percent)
        if match is None:
            message = "known are %s, %d, %x, %f, %.2f and %%"
            raise call.error(message)
        parts.append(template[position:percent])
        parts.append("%" if match.group() == "%%" else _formatted(call, match, values))
        position = match.end()
    parts.append(template[position:])
    if values:
        message = "there are more values than places for them"
        raise call.error(message)
    call.build(sum(map(len, parts)))
    return "".join(parts)


def _formatted(call: Arguments, match: re.Match[str], values: list[Value]) -> str:
    if not values:
        message = "there are more places than values"
        raise call.error(message)
    value, kind = values.pop(), match.group()[-1]
    if kind == "s":
        return text_of(value, call.position)
    if kind in "dx" and is_integer(value):
        return format(operators.integer(value, call.position), kind)
    if kind == "f" and (isinstance(value, float) or is_integer(value)):
        number = float(operators.integer(value, call.position)) if is_integer(value) else value
        return f"{number:.{match.group(1) or 6}f}"
    message = f"%{kind} does not take {type_name(value)}"
    raise call.error(message)


def _lower(call: Arguments) -> Value:
    call.build(len(call.text(0)))
    return call.text(0).lower()


def _upper(call: Arguments) -> Value:
    call.build(len(call.text(0)))
    return call.text(0).upper()


FUNCTIONS: dict[str, Function] = {
    "size": _size,
    "string": lambda call: text_of(call.values[0], call.position),
    "int": _int,
    "double": _double,
    "bool": _bool,
    "contains": lambda call: operators.holds(call.values[0], call.values[1], call.position),
    "startsWith": lambda call: call.text(0).startswith(call.text(1)),
    "endsWith": lambda call: call.text(0).endswith(call.text(1)),
    "lower": _lower,
    "upper": _upper,
    "trim": lambda call: call.text(0).strip(),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "keys": lambda call: sorted(call.mapping(0)),
    "values": lambda call: [value for _, value in sorted(call.mapping(0).items(), key=lambda entry: entry[0])],
    "min": _extreme,
    "max": _extreme,
    "abs": _abs,
    "merge": _merge,
    "concat": _concat,
    "toJson": _to_json,
    "fromJson": _from_json,
    "base64": _base64,
    "sha256": _sha256,
    "format": _format,
}
# These pass elements on as they are, so that a secret element does not make its neighbours secret.
STRUCTURAL = frozenset({"size", "keys", "values", "merge", "concat"})
