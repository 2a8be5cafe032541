"""Code that runs inside the sandbox: the tests in one process, the program in another.

The judge is the first process. It forks the program's process before it reads a test or the verdict's nonce, so that
no memory, file descriptor or frame of the program ever holds them. Tests reach the program through two pipes: plain
values cross as JSON copies, everything else as a proxy. What the judge reads from the program is data; it serves the
program's requests for callables and objects that a test passed, and no private attribute of them.

`ladder.verifiers.boxed.sending` compiles the package once and sends it as bytecode. It imports only modules that Python
has loaded or built in (`json` alone would take 10 ms of the 30 that a program takes).
"""

from __future__ import annotations

import builtins
import os
import sys

from ladder.verifiers.boxed.channel import Channel, Left, flush, report
from ladder.verifiers.boxed.proxies import ends

TYPE_CHECKING = False  # importing typing would take 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Names(dict[str, object]):
    """The global names of the tests: their own, then the program's, then Python's built-in ones.

    A built-in name is the program's only where the tests use no other name of the program's (a task may ask for a
    function `sum`). So a program does not get to redefine `abs` or `len` for its tests.
    """

    def __init__(self, channel: Channel, module: str, defined: set[str], used: set[str]) -> None:
        super().__init__(__name__=module, __builtins__=builtins)
        self.channel = channel
        theirs = {name for name in defined & used if not name.startswith("__")}
        built_in = set(vars(builtins))
        self.built_in = built_in if theirs - built_in else built_in - theirs
        self.known = theirs if theirs and not theirs - built_in else None

    def __missing__(self, name: str) -> Any:
        if name in self.built_in or (self.known is not None and name not in self.known):
            raise KeyError(name)
        return self.channel.request("name", name)


def names_used(code: Any) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, type(code))]
    return set(code.co_names).union(*map(names_used, inner))


def imports_of(tests: str) -> str:
    """The import statements at the top of the tests: a program may rely on them, as in MBPP."""
    if "import" not in tests:
        return ""
    import _ast

    tree: Any = compile(tests, "tests.py", "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
    lines = tests.encode().split(b"\n")
    kept = [node for node in tree.body if isinstance(node, (_ast.Import, _ast.ImportFrom))]
    parts = []
    for node in kept:
        rows = lines[node.lineno - 1 : node.end_lineno]
        rows[-1] = rows[-1][: node.end_col_offset]
        rows[0] = rows[0][node.col_offset :]
        parts.append(b"\n".join(rows).decode())
    return "\n".join(parts)


def leave(child: int) -> None:
    """End as the program has ended."""
    flush()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os._exit(128 + os.WTERMSIG(status))
    print("the program exited before its end", file=sys.stderr, flush=True)
    os._exit(1)


def judge(channel: Channel, child: int, take: Callable[[], bytes], verdict: int) -> None:
    nonce, name, program, tests = (take().decode("utf-8", "surrogatepass") for _ in range(4))
    ends.append(channel)
    os.write(verdict, b"began\n")  # without a reader, this ends the sandbox
    try:
        code = compile(tests, "tests.py", "exec", dont_inherit=True)
        imports = imports_of(tests)
    except (SyntaxError, ValueError) as error:
        report(error)
        os._exit(1)
    try:
        try:
            defined = set(map(str, channel.request("run", name, program, imports)))
        except Left:
            raise
        except BaseException:  # the program's process has printed it
            os._exit(1)
        if tests:
            exec(code, Names(channel, name, defined, names_used(code)))
            channel.request("flush")
            os.kill(child, 9)
        else:
            os.close(channel.sink)  # the program ends by itself, its threads too
            if os.waitpid(child, 0)[1]:
                os._exit(1)
    except Left:
        leave(child)
    except BaseException as error:  # of the tests, or of the program in their calls
        try:  # noqa: SIM105 - importing contextlib takes too long
            channel.request("flush")
        except BaseException:  # whatever it answers
            pass
        os.kill(child, 9)
        report(error)
        os._exit(1)
    flush()
    os.write(verdict, nonce.encode())
    os._exit(0)


def confine(filters: bytes) -> Callable[[], object]:
    """No new privileges, a system call filter, memory closed to other processes, death with the parent.

    Returns what arms that last one again, since a fork does not inherit it.
    """
    # `ctypes` itself would take 5 ms to import
    from _ctypes import FUNCFLAG_CDECL, Array, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym

    PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 1, 4, 22, 38, 2
    kinds: Any = (type("C", (_SimpleCData,), {"_type_": letter}) for letter in "iQB")
    integer, word, byte = kinds
    function: Any = type("Function", (CFuncPtr,), {"_flags_": FUNCFLAG_CDECL, "_restype_": integer})
    itself: Any = None
    address = function(dlsym(dlopen(itself, 0), "prctl"))
    array: Any = type("Code", (Array,), {"_type_": byte, "_length_": len(filters)})
    code = array.from_buffer_copy(filters)
    fprog: Any = type("Program", (Array,), {"_type_": word, "_length_": 2})(len(filters) // 8, addressof(code))

    def prctl(option: int, first: int, second: int = 0) -> int:
        return int(address(integer(option), word(first), word(second), word(0), word(0)))

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, 9)

    arm()
    calls = [(PR_SET_DUMPABLE, 0, 0), (PR_SET_NO_NEW_PRIVS, 1, 0)]
    calls += [(PR_SET_SECCOMP, MODE_FILTER, addressof(fprog))]
    for option, first, second in calls:
        if prctl(option, first, second):
            print(f"the sandbox's prctl({option}, {first}) failed", file=sys.stderr, flush=True)
            os._exit(1)
    return arm


def main(take: Callable[[], bytes], verdict: int) -> None:
    """Split into the judge and the program; `take` reads the next part of what the parent sends."""
    arm = confine(take())
    to_program, from_judge = os.pipe()
    to_judge, from_program = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(to_program)
        os.close(from_program)
        judge(Channel(to_judge, from_judge, program=False), child, take, verdict)
    arm()
    if os.getppid() != parent:
        os._exit(1)
    for descriptor in (0, verdict, from_judge, to_judge):
        os.close(descriptor)
    os.open("/dev/null", os.O_RDONLY)
    channel = Channel(to_program, from_program, program=True)
    ends.append(channel)
    try:
        while True:
            channel.serve(channel.receive())
    except Left:
        return
