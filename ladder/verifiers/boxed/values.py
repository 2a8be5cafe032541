"""Values as JSON: copies of plain ones, numbers for the objects that stay in their process.

What is read may be hostile: it makes values of the listed classes, and calls nothing else. (Importing `json` would take
10 ms, a third of what a program takes.)
"""

from __future__ import annotations

import builtins
import sys
from _json import encode_basestring_ascii, make_encoder, make_scanner

from ladder.verifiers.boxed.proxies import Peer, Proxy, peer

TYPE_CHECKING = False  # importing typing would take 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Packed = list[Any]
    Memo = dict[int, tuple[int, Any]]  # of a message: its containers by id, and their numbers
LARGE = 2**63
MUTABLE = (list, dict, set, bytearray)
PLAIN = {type(None), bool, int, float, str}
NUMBERS = ("NaN", "Infinity", "-Infinity")

# Classes whose objects cross by value: the arguments that make an equal object.
VALUES: dict[str, Callable[[Any], Any]] = {
    "builtins.complex": lambda value: (value.real, value.imag),
    "builtins.range": lambda value: (value.start, value.stop, value.step),
    "builtins.slice": lambda value: (value.start, value.stop, value.step),
    "collections.deque": lambda value: (list(value), value.maxlen),
    "collections.Counter": lambda value: (dict(value),),
    "collections.OrderedDict": lambda value: (list(value.items()),),
    "collections.defaultdict": lambda value: (value.default_factory, dict(value)),
    "fractions.Fraction": lambda value: (value.numerator, value.denominator),
    "decimal.Decimal": lambda value: (str(value),),
    "datetime.date": lambda value: value.__reduce__()[1],
    "datetime.datetime": lambda value: value.__reduce__()[1],
    "datetime.time": lambda value: value.__reduce__()[1],
    "datetime.timedelta": lambda value: value.__reduce__()[1],
    "datetime.timezone": lambda value: value.__getinitargs__(),
}
PLAIN_OF: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}
VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
BASES = (str, bytes, tuple, list, dict, set, frozenset, float, int)  # a subclass's object crosses as value and proxy


class Scanner:
    """What `_json.make_scanner` asks for."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int = False, None, None, float, int
    parse_constant = dict(zip(NUMBERS, map(float, NUMBERS), strict=True)).__getitem__
    memo: dict[str, str] = {}


def refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON form")


_scanner: Any = Scanner
scan = make_scanner(_scanner)
write_json = make_encoder(None, refuse, encode_basestring_ascii, None, ":", ",", False, False, True)


class Values(Peer):
    """Both directions of one process."""

    def __init__(self, *, program: bool) -> None:
        self.program = program
        self.objects: list[Any] = []  # those that the other process knows by number
        self.numbers: dict[int, int] = {}
        self.proxies: dict[int, Any] = {}
        self.mirrors: dict[int, Any] = {}

    def pack(self, value: Any, memo: Memo) -> Any:
        kind = type(value)
        if kind is int:
            return value if -LARGE < value < LARGE else ["i", hex(value)]
        if kind in PLAIN:
            return value
        if kind is Proxy:
            return ["p", value.ladder_number]
        if id(value) in memo:
            return ["r", memo[id(value)][0]]
        if kind in MUTABLE:
            memo[id(value)] = (len(memo), value)
        if kind is bytes or kind is bytearray:
            return ["b" if kind is bytes else "y", bytes(value).decode("latin-1")]
        if kind in SEQUENCES:
            items = list(value)
            if all_plain(items):
                return [SEQUENCES[kind], items]
            return [SEQUENCES[kind], [self.pack(item, memo) for item in items]]
        if kind is dict:
            return ["d", [self.pack(key, memo) for key in value], [self.pack(item, memo) for item in value.values()]]
        if kind in VIEWS:
            return ["v", VIEWS[kind], [self.pack(item, memo) for item in value]]
        return self.pack_other(value, kind, memo)

    def pack_other(self, value: Any, kind: type, memo: Memo) -> Any:
        known = f"{kind.__module__}.{kind.__qualname__}"
        if known in VALUES and getattr(sys.modules.get(kind.__module__), known.rpartition(".")[2], None) is kind:
            return ["o", known, [self.pack(item, memo) for item in VALUES[known](value)]]
        if kind is type(sys):
            return ["m", str(value.__name__)]
        if value is NotImplemented or value is Ellipsis:
            return ["c", "NotImplemented" if value is NotImplemented else "Ellipsis"]
        if kind is type and built_in(value):
            return ["c", value.__name__]
        if not self.program and kind is type and "ladder_number" in vars(value):
            return ["p", vars(value)["ladder_number"]]
        if isinstance(value, type) and issubclass(value, BaseException):
            return self.pack_exception_class(value)
        if isinstance(value, BaseException):
            return self.pack_exception(value, kind)
        if self.program:
            if kind.__name__ == "coroutine":
                return ["k", self.number(value)]
            for base in BASES:
                if isinstance(value, base) and kind is not bool:
                    plain = PLAIN_OF.get(base, base)(value)
                    return ["u", self.pack(plain, memo), self.number(value)]
        elif kind is type(len) and built_in(value):
            return ["c", value.__name__]
        return ["h", self.number(value)]

    def pack_exception_class(self, kind: type) -> Any:
        if self.program:
            if kind.__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
                return ["E", kind.__module__, kind.__qualname__]
            return ["e", self.number(kind), kind.__name__, self.pack(kind.__mro__[1], {})]
        return next(["c", base.__name__] for base in kind.__mro__ if base.__module__ == "builtins")

    def pack_exception(self, value: BaseException, kind: type) -> Any:
        args = []
        for item in value.args:
            try:
                args.append(self.pack(item, {}))
            except Exception as error:  # any argument of any exception
                args.append(f"{type(error).__name__}: {error}")
        try:
            text = str(value)
        except Exception:  # the program's own __str__
            text = ""
        return ["x", self.pack(kind, {}), args, self.number(value) if self.program else -1, text]

    def number(self, value: Any) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)  # kept: the number is its
        return self.numbers[id(value)]

    def unpack(self, packed: Any, made: list[Any]) -> Any:
        if type(packed) is not list:
            return packed
        tag, *parts = packed
        if tag in ("l", "s", "d"):
            result: Any = {"l": list, "s": set, "d": dict}[tag]()
            made.append(result)
            if tag == "d":
                keys, items = parts
                for key, item in zip(keys, items, strict=True):
                    result[self.unpack(key, made)] = self.unpack(item, made)
                return result
            items = parts[0] if all_plain(parts[0]) else [self.unpack(item, made) for item in parts[0]]
            result.extend(items) if tag == "l" else result.update(items)
            return result
        return getattr(self, f"unpack_{tag}")(made, *parts)

    def unpack_i(self, made: list[Any], digits: str) -> int:
        return int(digits, 16)

    def unpack_t(self, made: list[Any], items: Packed) -> tuple[Any, ...]:
        return tuple([self.unpack(item, made) for item in items])

    def unpack_z(self, made: list[Any], items: Packed) -> frozenset[Any]:
        return frozenset([self.unpack(item, made) for item in items])

    def unpack_b(self, made: list[Any], text: str) -> bytes:
        return text.encode("latin-1")

    def unpack_y(self, made: list[Any], text: str) -> bytearray:
        made.append(bytearray(text.encode("latin-1")))
        return made[-1]

    def unpack_r(self, made: list[Any], index: int) -> Any:
        return made[index]

    def unpack_v(self, made: list[Any], view: str, items: Packed) -> Any:
        values = [self.unpack(item, made) for item in items]
        if view == "keys":
            return dict.fromkeys(values).keys()
        return dict(enumerate(values)).values() if view == "values" else dict(values).items()

    def unpack_o(self, made: list[Any], known: str, args: Packed) -> Any:
        if known not in VALUES:
            raise TypeError(f"the program sent a value of an unknown class: {known}")
        return imported(*known.split("."))(*[self.unpack(item, made) for item in args])

    def unpack_m(self, made: list[Any], name: str) -> Any:
        return imported(name)

    def unpack_c(self, made: list[Any], name: str) -> Any:
        return getattr(builtins, name)

    def unpack_p(self, made: list[Any], number: int) -> Any:
        return self.objects[number]

    def unpack_h(self, made: list[Any], number: int) -> Any:
        if number not in self.proxies:
            self.proxies[number] = Proxy(number)
        return self.proxies[number]

    def unpack_k(self, made: list[Any], number: int) -> Any:
        proxy = self.unpack_h(made, number)

        async def awaited() -> Any:
            return peer().request("await", proxy)

        return awaited()

    def unpack_u(self, made: list[Any], value: Any, number: int) -> Any:
        plain = self.unpack(value, made)
        proxy = self.unpack_h(made, number)
        base = type(plain)
        if base not in BASES:
            raise TypeError(f"the program sent a subclass of {base.__name__}")
        kind = type(base.__name__, (base,), {"__getattr__": lambda self, name: getattr(proxy, name)})
        return kind(plain)

    def unpack_E(self, made: list[Any], module: str, name: str) -> Any:
        kind = imported(module, *name.split("."))
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"expected an exception from the program, got {module}.{name}")
        return kind

    def unpack_e(self, made: list[Any], number: int, name: str, base: Any) -> Any:
        if number not in self.mirrors:
            members = {
                "__module__": "program",
                "__str__": lambda self: self.ladder_text,
                "__getattr__": lambda self, name: getattr(vars(self)["ladder_proxy"], name),
                "ladder_number": number,
                "ladder_text": "",
            }
            self.mirrors[number] = type(name, (self.unpack(base, []),), members)
        return self.mirrors[number]

    def unpack_x(self, made: list[Any], kind: Any, args: Packed, number: int, text: str) -> Any:
        found = self.unpack(kind, made)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise TypeError("expected an exception from the program")
        values = [self.unpack(item, []) for item in args]
        try:
            error: Any = found(*values)
        except TypeError:
            error = found.__new__(found)
            error.args = tuple(values)
        if "ladder_text" in vars(found):
            error.ladder_text, error.ladder_proxy = text, self.unpack_h(made, number)
        return error


def built_in(value: Any) -> bool:
    return vars(builtins).get(value.__name__) is value


def all_plain(items: Any) -> bool:
    """Whether every item crosses as it is."""
    kinds = set(map(type, items))
    return kinds <= PLAIN and (int not in kinds or all(-LARGE < item < LARGE for item in items if type(item) is int))


def imported(module: str, *path: str) -> Any:
    """A module of the standard library, or what it holds."""
    if module.partition(".")[0] not in sys.stdlib_module_names or module.startswith("_"):
        raise ImportError(f"the program's module {module} is not in the standard library")
    __import__(module)
    found: Any = sys.modules[module]
    for name in path:
        found = getattr(found, name)
    return found
