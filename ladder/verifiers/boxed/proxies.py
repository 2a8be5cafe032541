"""Proxies: objects of the other process, on which every operation is a request to it."""

from __future__ import annotations

import _operator

TYPE_CHECKING = False  # importing typing would take 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNARY: dict[str, Callable[..., Any]] = {
    "__len__": len, "__iter__": iter, "__next__": next, "__bool__": bool, "__str__": str, "__repr__": repr,
    "__hash__": hash, "__abs__": abs, "__neg__": _operator.neg, "__pos__": _operator.pos, "__int__": int,
    "__invert__": _operator.invert, "__float__": float, "__complex__": complex, "__index__": _operator.index,
    "__round__": round, "__reversed__": reversed, "__getitem__": _operator.getitem, "__setitem__": _operator.setitem,
    "__delitem__": _operator.delitem, "__format__": format, "__bytes__": bytes,
    "__instancecheck__": lambda kind, value: isinstance(value, kind),
    "__subclasscheck__": lambda kind, value: issubclass(value, kind),
    "__enter__": lambda value: type(value).__enter__(value),
    "__exit__": lambda value, *error: type(value).__exit__(value, *error),
}  # fmt: skip
COMPARE: dict[str, Callable[..., Any]] = {
    f"__{name}__": getattr(_operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
ARITHMETIC: dict[str, Callable[..., Any]] = {"__divmod__": divmod, "__rdivmod__": lambda a, b: divmod(b, a)}
for _name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "xor"):
    ARITHMETIC[f"__{_name}__"] = _straight = getattr(_operator, _name)
    ARITHMETIC[f"__r{_name}__"] = lambda a, b, _do=_straight: _do(b, a)
for _name in ("and", "or"):
    ARITHMETIC[f"__{_name}__"] = _straight = getattr(_operator, f"{_name}_")
    ARITHMETIC[f"__r{_name}__"] = lambda a, b, _do=_straight: _do(b, a)
OPERATIONS = {**UNARY, **COMPARE, **ARITHMETIC}
TO_PLAIN = {"__abs__", "__int__", "__float__", "__complex__", "__index__", "__round__", "__bool__", "__len__"}


class Peer:
    """What a proxy asks: the channel to the other process."""

    program: bool
    """Whether this process is the program's, not the judge's."""

    def request(self, operation: str, *args: Any) -> Any:
        raise NotImplementedError

    def streams(self) -> dict[str, Any]:
        raise NotImplementedError


ends: list[Peer] = []
"""This process's end of the channel, once it is open."""


def peer() -> Peer:
    return ends[0]


class Proxy:
    """An object of the other process."""

    __slots__ = ("__weakref__", "ladder_computed", "ladder_number")
    ladder_number: int
    ladder_computed: bool

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "ladder_number", number)
        object.__setattr__(self, "ladder_computed", False)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return peer().request("call", self, list(args), keywords, peer().streams())

    def __getattr__(self, name: str) -> Any:
        return peer().request("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        peer().request("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        peer().request("del", self, name)

    def __contains__(self, item: Any) -> bool:
        if isinstance(item, Proxy) or peer().program:
            return bool(peer().request("in", self, item))
        return any(item is each or item == each for each in self)  # type: ignore[attr-defined]


def _unary(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *args: Any) -> Any:
        if self.ladder_computed and name in TO_PLAIN:
            raise TypeError(
                "the program's object was computed with a value of the tests: it does not convert to a number"
            )
        return peer().request(name, self, *args)

    return method


def _compare(name: str) -> Callable[..., Any]:
    def method(self: Proxy, other: Any) -> Any:
        # An object of the program that says it equals everything must not meet an expected value.
        if isinstance(other, Proxy) or peer().program:
            return peer().request(name, self, other)
        return NotImplemented

    return method


def _arithmetic(name: str) -> Callable[..., Any]:
    def method(self: Proxy, *others: Any) -> Any:
        result = peer().request(name, self, *others)
        if peer().program or isinstance(others[0], Proxy):
            return result
        if not isinstance(result, Proxy):
            return NotImplemented  # `abs(answer - expected) < 1e-6` is not for the program to compute
        object.__setattr__(result, "ladder_computed", True)
        return result

    return method


for _names, _make in ((UNARY, _unary), (COMPARE, _compare), (ARITHMETIC, _arithmetic)):
    for _name in _names:
        setattr(Proxy, _name, _make(_name))
