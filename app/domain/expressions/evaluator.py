"""Walks a syntax tree and computes its value, tracking what is unknown and what is secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.expressions import operators
from app.domain.expressions.budget import Budget, is_integer, type_name
from app.domain.expressions.errors import BudgetExceeded, ExpressionError, MissingReference
from app.domain.expressions.functions import FUNCTIONS, STRUCTURAL, Arguments
from app.domain.expressions.syntax import (
    Access,
    Binary,
    Call,
    Conditional,
    ListOf,
    Literal,
    MapOf,
    Name,
    Node,
    Unary,
)
from app.domain.naming import hint, nearest
from app.domain.values import UNKNOWN, Secret, Value


class Evaluator:
    """One evaluation: a scope and a budget. UNKNOWN in gives UNKNOWN out, a Secret in gives a Secret out."""

    def __init__(self, scope: Mapping[str, Value], budget: Budget) -> None:
        self.scope = scope
        self.budget = budget

    def value_of(self, node: Node) -> Value:
        """The value of `node`. Chains of binary operators lean left and are walked in a loop, not by recursion."""
        chain: list[Binary] = []
        while isinstance(node, Binary):
            chain.append(node)
            node = node.left
        value = self._single(node)
        for link in reversed(chain):
            self.budget.step(link.position)
            logical = link.operator in ("&&", "||")
            value = self._logical(link, value) if logical else self._binary(link, value)
        return value

    def _single(self, node: Node) -> Value:
        self.budget.step(node.position)
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Name):
            return self._root(node)
        if isinstance(node, Access):
            return self._access(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Conditional):
            return self._conditional(node)
        if isinstance(node, Unary):
            return self._unary(node)
        if isinstance(node, ListOf):
            return [self.value_of(item) for item in node.items]
        return self._map(node) if isinstance(node, MapOf) else self.value_of(node)

    # ── reading the scope ────────────────────────────────────────────────────────────────────────────────────────

    def _root(self, node: Name) -> Value:
        if node.name in self.scope:
            return self.scope[node.name]
        message = f"there is no '{node.name}'{hint(nearest(node.name, self.scope))}"
        raise MissingReference(message, position=node.position)

    def _access(self, node: Access) -> Value:
        """Follows the chain. `?.` gives null where the value before it, or what it asks of it, is not there."""
        optional = [accessor.optional for accessor in node.accessors]
        try:
            value = self.value_of(node.base)
        except MissingReference:
            if optional[0]:
                return None
            raise
        tainted = False
        trail = node.base.name if isinstance(node.base, Name) else "(…)"
        for position, accessor in enumerate(node.accessors):
            if isinstance(value, Secret):
                value, tainted = value.value, True
            if value is UNKNOWN:
                return UNKNOWN
            if value is None and accessor.optional:
                return None
            key, key_tainted, key_known = self._opened(self.value_of(accessor.key), accessor.position)
            tainted = tainted or key_tainted
            if not key_known:
                return UNKNOWN
            try:
                value = _member(value, key, trail, tainted, accessor.position)
            except MissingReference:
                if accessor.optional or any(optional[position + 1 : position + 2]):
                    return None
                raise
            trail = f"{trail}.{key}" if isinstance(key, str) and not key_tainted else f"{trail}[{_shown(key, tainted)}]"
        return _sealed(value, tainted)

    # ── operators ────────────────────────────────────────────────────────────────────────────────────────────────

    def _logical(self, node: Binary, left: Value) -> Value:
        """`&&` and `||`. One side can decide although the other is unknown."""
        decisive = node.operator == "||"
        first, first_secret = self._truth(left, node.position)
        if first is decisive:
            return _sealed(decisive, first_secret)
        try:
            second, second_secret = self._truth(self.value_of(node.right), node.position)
        except BudgetExceeded:
            raise
        except ExpressionError:
            # What is unknown now may later decide before the faulty side is ever looked at.
            if first is UNKNOWN:
                return UNKNOWN
            raise
        if second is decisive:
            return _sealed(decisive, first_secret or second_secret)
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        return _sealed(second, first_secret or second_secret)

    def _binary(self, node: Binary, before: Value) -> Value:
        operator, position = node.operator, node.position
        after = self.value_of(node.right)
        if operator == "+" and not _is_scalar(before) and not _is_scalar(after):
            return self._join(before, after, position)
        left, left_secret, left_known = self._opened(before, position)
        right, right_secret, right_known = self._opened(after, position)
        if not (left_known and right_known):
            return UNKNOWN
        result: Value
        if operator in ("==", "!="):
            result = operators.equal(left, right) is (operator == "==")
        elif operator == "in":
            result = operators.holds(right, left, position)
        elif operator in ("<", "<=", ">", ">="):
            result = operators.compare(operator, left, right, position)
        elif operator == "+":
            result = operators.add(left, right, self.budget, position)
        else:
            result = operators.calculate(operator, left, right, position)
        return _sealed(result, left_secret or right_secret)

    def _join(self, before: Value, after: Value, position: int) -> Value:
        """`+` of two collections, whose elements stay as they are."""
        secret = isinstance(before, Secret) or isinstance(after, Secret)
        left, right = _unwrapped(before), _unwrapped(after)
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        return _sealed(operators.add(left, right, self.budget, position), secret)

    def _unary(self, node: Unary) -> Value:
        value, secret, known = self._opened(self.value_of(node.operand), node.position)
        if not known:
            return UNKNOWN
        if node.operator == "!" and isinstance(value, bool):
            return _sealed(not value, secret)
        if node.operator == "-" and isinstance(value, float):
            return _sealed(-value, secret)
        if node.operator == "-" and is_integer(value):
            return _sealed(operators.integer(-value, node.position), secret)
        message = f"'{node.operator}' at {node.position} cannot be applied to {type_name(value)}"
        raise ExpressionError(message, position=node.position)

    def _conditional(self, node: Conditional) -> Value:
        condition, secret = self._truth(self.value_of(node.condition), node.position)
        if condition is UNKNOWN:
            return UNKNOWN
        return _sealed(self.value_of(node.then if condition else node.otherwise), secret)

    def _map(self, node: MapOf) -> Value:
        made: dict[str, Value] = {}
        for key_node, value_node in node.entries:
            key = self.value_of(key_node)
            if key is UNKNOWN:
                return UNKNOWN
            if not isinstance(key, str):
                message = f"the key at {key_node.position} must be a string, not {type_name(key)}"
                raise ExpressionError(message, position=key_node.position)
            made[key] = self.value_of(value_node)
        return made

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, node: Call) -> Value:
        if node.name in ("default", "coalesce"):
            return self._first_present(node)
        if node.name == "has":
            return self._has(node)
        secret = False
        values: list[Value] = []
        for argument in node.arguments:
            value = self.value_of(argument)
            if node.name in STRUCTURAL:
                tainted, value = isinstance(value, Secret), _unwrapped(value)
                known = value is not UNKNOWN
            else:
                value, tainted, known = self._opened(value, node.position)
            if not known:
                return UNKNOWN
            secret = secret or tainted
            values.append(value)
        call = Arguments(node.name, values, self.budget, node.position)
        return _sealed(FUNCTIONS[node.name](call), secret)

    def _first_present(self, node: Call) -> Value:
        """The first argument that is there and not null; the last one whatever it is."""
        for argument in node.arguments[:-1]:
            try:
                value = self.value_of(argument)
            except MissingReference:
                continue
            if _unwrapped(value) is not None:
                return value
        return self.value_of(node.arguments[-1])

    def _has(self, node: Call) -> Value:
        try:
            value = self.value_of(node.arguments[0])
        except MissingReference:
            return False
        if value is UNKNOWN:
            return UNKNOWN
        return value is not None

    # ── unknown and secret ───────────────────────────────────────────────────────────────────────────────────────

    def _truth(self, value: Value, position: int) -> tuple[Any, bool]:
        """True, False or UNKNOWN, and whether that is secret."""
        truth = _unwrapped(value)
        if truth is UNKNOWN or isinstance(truth, bool):
            return truth, isinstance(value, Secret)
        message = f"a bool is needed at {position}, not {type_name(truth)}"
        raise ExpressionError(message, position=position)

    def _opened(self, value: Value, position: int) -> tuple[Value, bool, bool]:
        """The value without any Secret in it; whether there was one; whether all of it is known."""
        if value is None or isinstance(value, (int, float)):
            return value, False, True
        if value is UNKNOWN:
            return value, False, False
        if isinstance(value, str):
            self.budget.spend(len(value), position)
            return value, False, True
        self.budget.read(value, position)
        found: list[Value] = []
        return _open_tree(value, found), any(isinstance(leaf, Secret) for leaf in found), UNKNOWN not in found


def _open_tree(value: Value, found: list[Value]) -> Value:
    """The tree revealed. Secrets and unknowns met on the way are added to `found`."""
    if isinstance(value, Secret):
        found.append(value)
        return _open_tree(value.value, found)
    if isinstance(value, Mapping):
        return {key: _open_tree(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_open_tree(item, found) for item in value]
    if value is UNKNOWN:
        found.append(value)
    return value


def _member(container: Value, key: Value, trail: str, tainted: bool, position: int) -> Value:
    if isinstance(container, Mapping) and isinstance(key, str):
        if key in container:
            return container[key]
        # The keys of a secret map are secret too.
        suggestion = None if tainted else nearest(key, container)
        message = f"'{trail}' has no '{_shown(key, tainted)}'{hint(suggestion)}"
        raise MissingReference(message, position=position)
    if isinstance(container, (list, tuple)) and is_integer(key):
        if 0 <= key < len(container):
            return container[key]
        message = f"'{trail}' has no element {_shown(key, tainted)}"
        raise MissingReference(message, position=position)
    wanted = "an int" if isinstance(container, (list, tuple)) else "a string"
    if isinstance(container, (Mapping, list, tuple)):
        message = f"'{trail}' is {type_name(container)}: {wanted} is needed at {position}, not {type_name(key)}"
    else:
        message = f"'{trail}' is {type_name(container)} and has no '{_shown(key, tainted)}'"
    if container is None:
        raise MissingReference(message, position=position)
    raise ExpressionError(message, position=position)


def _shown(key: Value, tainted: bool) -> str:
    return "…" if tainted else str(key)[:100]


def _is_scalar(value: Value) -> bool:
    plain = _unwrapped(value)
    return plain is None or isinstance(plain, (str, int, float))


def _unwrapped(value: Value) -> Value:
    return value.value if isinstance(value, Secret) else value


def _sealed(value: Value, secret: bool) -> Value:
    """`value`, as a Secret if it is to be one; what is unknown hides nothing yet."""
    return Secret(value) if secret and not isinstance(value, Secret) and value is not UNKNOWN else value
