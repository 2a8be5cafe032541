"""Requests and replies between the judge and the program."""

from __future__ import annotations

import builtins
import os
import sys

from ladder.verifiers.boxed.proxies import OPERATIONS
from ladder.verifiers.boxed.values import Values, scan, write_json

TYPE_CHECKING = False  # importing typing would take 5 ms
if TYPE_CHECKING:
    from typing import Any

    from ladder.verifiers.boxed.values import Memo, Packed


class Left(BaseException):
    """The other process has closed its pipe."""


class Channel(Values):
    """Requests and replies between the judge and the program, nested like the calls that they carry."""

    def __init__(self, source: int, sink: int, *, program: bool) -> None:
        super().__init__(program=program)
        self.source, self.sink = source, sink
        self.unreplaced = standard_streams()

    # Messages

    def send(self, message: Packed) -> None:
        data = "".join(write_json(message, 0)).encode("ascii")
        rest = memoryview(len(data).to_bytes(8, "big") + data)
        try:
            while rest:
                rest = rest[os.write(self.sink, rest) :]
        except OSError:
            raise Left from None

    def receive(self) -> Packed:
        size, header = 8, True
        chunks: list[bytes] = []
        while size:
            try:
                part = os.read(self.source, min(size, 2**20))
            except OSError:
                part = b""
            if not part:
                raise Left
            chunks.append(part)
            size -= len(part)
            if not size and header:
                size, header, chunks = int.from_bytes(b"".join(chunks), "big"), False, []
        message, _ = scan(b"".join(chunks).decode("ascii"), 0)
        return list(message)

    def request(self, operation: str, *args: Any) -> Any:
        memo: Memo = {}
        self.send(["q", operation, [self.pack(each, memo) for each in args]])
        while (message := self.receive())[0] == "q":
            self.serve(message)
        made: list[Any] = []
        if message[0] == "e":
            error = self.unpack(message[1], made)
            if isinstance(error, StopIteration) and operation != "__next__":
                error = RuntimeError("the program raised StopIteration")  # it would end a loop of the tests early
            if not isinstance(error, BaseException):
                raise TypeError("the program raised no exception")
            raise error
        if message[2] is not None:
            after: list[Any] = []
            for old, new in zip(args, message[2], strict=True):
                update(old, self.unpack(new, after))
        return self.unpack(message[1], made)

    def serve(self, message: Packed) -> None:
        _, operation, packed = message
        try:
            made: list[Any] = []
            args = [self.unpack(each, made) for each in packed]
            result = self.perform(operation, args)
            changed = None
            if made:
                memo: Memo = {}
                after = [self.pack(each, memo) for each in args]
                changed = None if after[1:] == packed[1:] else after  # the first is the called object
            reply = ["a", self.pack(result, {}), changed]
        except Left:
            raise
        except BaseException as error:  # whatever a program raises is raised in the test that called it
            if self.program and operation == "run":
                report(error)
            reply = ["e", self.pack(error, {})]
        self.send(reply)

    def perform(self, operation: str, args: Packed) -> Any:
        own: dict[str, Any] = {"run": self.run, "name": self.name, "flush": flush, "await": wait_for}
        own = own if self.program else {}
        if operation in own:
            return own[operation](*args)
        target, *rest = args
        if not self.program:
            check_served(operation, target, rest)
        if operation == "call":
            return self.call(target, *rest)
        if operation == "get":
            return getattr(target, *rest)
        if operation == "set":
            return setattr(target, *rest)
        if operation == "del":
            return delattr(target, *rest)
        if operation == "in":
            return rest[0] in target
        return OPERATIONS[operation](target, *rest)

    def call(self, target: Any, args: Packed, keywords: dict[str, Any], replaced: dict[str, Any]) -> Any:
        if not replaced or not self.program:
            return target(*args, **keywords)
        places = {name: builtins if name == "input" else sys for name in replaced}
        before = {name: getattr(place, name) for name, place in places.items()}
        try:
            for name, place in places.items():
                setattr(place, name, replaced[name])
            return target(*args, **keywords)
        finally:
            for name, place in places.items():
                setattr(place, name, before[name])

    def streams(self) -> dict[str, Any]:
        """The standard streams that a test has replaced, which a program that it calls must see replaced."""
        if self.program:
            return {}
        return {name: value for name, value in standard_streams().items() if value is not self.unreplaced[name]}

    # What the program's process does

    def run(self, name: str, text: str, imports: str) -> list[str]:
        """Run the program, and the imports of its tests as if both were one. Returns the names it defines."""
        module = sys.modules[name] = type(sys)(name)
        sys.argv[:] = ["program.py"]
        self.names = vars(module)
        exec(compile(text, "program.py", "exec", dont_inherit=True), self.names)
        exec(compile(imports, "tests.py", "exec", dont_inherit=True), self.names)
        return [str(each) for each in self.names]

    def name(self, name: str) -> Any:
        return self.names[name]


def wait_for(coroutine: Any) -> Any:
    import asyncio

    return asyncio.run(coroutine)


def standard_streams() -> dict[str, Any]:
    return {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr, "input": builtins.input}


def update(old: Any, new: Any) -> Any:
    """Make `old`, an argument of a test, what the call has made of it; in place where it can be changed."""
    if type(old) is not type(new):
        return new
    if type(old) is tuple:
        for pair in zip(old, new, strict=False):
            update(*pair)
        return new
    if type(old) is list:
        old[:] = [update(*pair) for pair in zip(old, new, strict=False)] + list(new[len(old) :])
    elif isinstance(old, dict):
        fresh_items = {key: update(old[key], value) if key in old else value for key, value in new.items()}
        old.clear()
        old.update(fresh_items)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif type(old).__name__ == "deque":
        old.clear()
        old.extend(new)
    else:
        return new
    return old


def check_served(operation: str, target: Any, rest: Packed) -> None:
    """Refuse what would lead the program from an object of the tests to the judge."""
    closed = (type(check_served), type(sys), type(sys._getframe()), type(check_served.__code__), type)
    if operation in ("get", "set", "del"):
        name = rest[0]
        inner = isinstance(target, closed) or hasattr(target, "gi_frame") or hasattr(target, "cr_frame")
        if type(name) is not str or name.startswith("_") or inner or isinstance(target, BaseException):
            raise AttributeError(f"{type(target).__name__} of the tests has no {name}")
    elif operation not in ("call", "in") and operation not in OPERATIONS:
        raise TypeError(f"the tests do not support {operation}")


def report(error: BaseException) -> None:
    """Print an uncaught exception, without the frames of this module."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename.startswith("boxed/"):
        trace = trace.tb_next
    if isinstance(error, SystemExit):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(type(error), error.with_traceback(trace), trace)
    flush()


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - importing contextlib takes too long
            stream.flush()
        except Exception:  # a program may have put anything there
            pass
