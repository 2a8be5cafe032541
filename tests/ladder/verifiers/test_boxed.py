"""Verdicts: a program that does not solve its task does not pass, whatever else it does. Every attack is bounded."""

import pytest

from ladder.verifiers import sandbox
from ladder.verifiers.sandbox import Program, run_python

pytestmark = pytest.mark.usefixtures("boxed")


def judged(program, tests, **limits):
    return run_python(Program(program, tests), **limits)


TESTS = "def check(candidate):\n    assert candidate(2) == 4\n    assert abs(candidate(3) - 6.0) < 1e-6\ncheck(double)"
WRONG = "def double(x): return 5\n"
FRAMES = """
import gc, sys
found, frame = [], sys._getframe()
while frame:
    found += [repr(value) for space in (frame.f_locals, frame.f_globals) for value in space.values()]
    frame = frame.f_back
found += [repr(value) for value in gc.get_objects() if isinstance(value, (str, bytes, dict, list, tuple))]
"""
# Each prints, writes or changes what it can; none implements `double` correctly.
ATTACKS = {
    "leaves early": "import os\nos._exit(0)",
    "leaves in the call": "import os\ndef double(x): os._exit(0)",
    "exits in the call": "def double(x): raise SystemExit(0)",
    "ends a loop of the tests": "def double(x): raise StopIteration",
    "ends the tests' generator": "def double(x): raise GeneratorExit",
    "prints all that its frames and objects hold": (
        FRAMES + "import os\nfor one in found[:20000]: print(one[-80:], flush=True)\nos._exit(0)"
    ),
    "reads its output for a mark": "import os\nseen = os.pread(1, 9999, 0)\nos.write(1, seen)\nos._exit(0)",
    "writes to every descriptor": """
import os
for fd in range(64):
    for said in (b"began\\n", b"\\x00" * 7 + b"\\x0f" + b'["a",true,null]'):
        try: os.write(fd, said)
        except OSError: pass
os._exit(0)""",
    "answers for itself": """
import sys, os
frame = sys._getframe()
while "self" not in frame.f_locals: frame = frame.f_back
channel = frame.f_locals["self"]
channel.send(["a", ["l", ["double"]], None])
for _ in range(3): channel.send(["a", None, None])
os._exit(0)""",
    "sends no JSON": """
import sys, os
channel = sys._getframe(1).f_locals["self"]
os.write(channel.sink, b"\\0" * 7 + b"\\x02[}")""",
    "sends another's exception as its class": """
import sys
channel = sys._getframe(1).f_locals["self"]
channel.send(["e", ["x", ["c", "dict"], [], 0, ""]])""",
    "calls back for the judge's frames": """
import sys
channel = sys._getframe(1).f_locals["self"]
for name in ("__globals__", "__code__", "gi_frame"):
    for number in range(3):
        try: print(channel.request("get", channel.unpack_h([], number), name))
        except Exception as error: print(error)""",
    "leaves a hook at exit": "import atexit, os\natexit.register(os._exit, 0)",
    "leaves a thread": """
import threading, time, os
def later():
    time.sleep(0.02)
    os._exit(0)
threading.Thread(target=later, daemon=True).start()""",
    "leaves a child": "import os, time\nif os.fork() == 0:\n    time.sleep(0.3)\n    os._exit(0)",
    "ends the judge": "import os\nfor n in (2, 15, 10, 9): os.kill(os.getppid(), n)",
    "ends all it can": "import os, signal\nos.kill(-1, 15)",
    "changes builtins": """
import builtins
builtins.abs = lambda x: 0
builtins.AssertionError = type("Quiet", (Exception,), {})
builtins.__build_class__ = builtins.isinstance = print""",
    "shadows names of the tests": """
abs = len = lambda *_: 0
def check(candidate): pass
class AssertionError(Exception): pass""",
    "traces": """
import sys
sys.settrace(lambda *_: None)
sys.setprofile(lambda *_: None)
sys.excepthook = print""",
    "changes modules": "import sys, math\nmath.isclose = lambda *_, **__: True\nsys.modules['builtins'].sum = print",
    "equals everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    __hash__ = int.__hash__
def double(x): return Equal(5)""",
    "equals everything, without a value": """
class Any:
    def __eq__(self, other): return True
    def __sub__(self, other): return self
    def __abs__(self): return 0.0
    def __float__(self): return 0.0
    def __lt__(self, other): return True
def double(x): return Any()""",
    "is a class that equals everything": """
class double:
    def __init__(self, x): pass
    def __eq__(self, other): return True
    def __sub__(self, other): return self
    def __abs__(self): return 0.0
    def __lt__(self, other): return True""",
    "changes what it was given": "def double(x):\n    x = 4\n    return 5",
    "reads memory": """
import ctypes, os, sys
parts = (ctypes.c_char * 64)()
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
local = Vector(ctypes.addressof(parts), 64)
print(ctypes.CDLL(None).process_vm_readv(os.getppid(), ctypes.byref(local), 1, ctypes.byref(local), 1, 0))
print(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))
for path in (f"/proc/{os.getppid()}/mem", "/proc/self/mem", "/proc/self/cmdline", f"/proc/{os.getppid()}/fd/0"):
    try: print(open(path, "rb").read(9))
    except OSError as error: print(error.errno)
sys.stdout.flush()
os._exit(0)""",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_does_not_pass(attack):
    outcome = judged(WRONG + ATTACKS[attack], TESTS, seconds=3, name="program")
    assert not outcome.ok, outcome
    if attack == "reads memory":
        assert outcome.output.split()[:6] == ["-1", "-1", "2", "2", "2", "2"]


def test_the_same_tests_pass_what_is_right():
    assert judged("def double(x): return 2 * x", TESTS) == sandbox.Outcome(True, "passed", "")


def test_a_program_holds_neither_its_tests_nor_the_nonce(monkeypatch):
    monkeypatch.setattr(sandbox.secrets, "token_hex", lambda size: "n0n" + "ce" * 6)
    program = (
        FRAMES
        + """
marks = ["".join(parts) for parts in (["n0n", "cece"], ["hid", "den = "])]
print([any(mark in one for one in found) for mark in marks], len(found) > 1000)
def f(x): return 1
"""
    )
    outcome = judged(program, "hidden = 1\nassert f(2) == hidden")
    assert outcome == sandbox.Outcome(True, "passed", "[False, False] True\n")


# (program, tests): as if the tests followed the program in one file
SAME = {
    "values": (
        "def f(x): return x",
        """
import collections, datetime, decimal, fractions, math
for value in (None, True, 1, -0.0, 2**70, -(2**9000), 1e-320, math.inf, "ü\\udc80\\0", b"\\xff", bytearray(b"a"),
              1 + 2j,
              [1, [2, "a"], (3,)], {"a": {1, 2}, 2: frozenset({3}), (4, None): [[]]}, range(3), slice(1, 2),
              collections.deque([1], 3), collections.Counter("aab"), collections.OrderedDict(a=1), int, ValueError,
              datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
              datetime.timedelta(1, 2), decimal.Decimal("1.10"), fractions.Fraction(1, 3), math, [0] * 100000):
    found = f(value)
    assert type(found) is type(value) and found == value and repr(found) == repr(value), value
assert math.isnan(f(math.nan)) and f({}.keys()) == {}.keys()
""",
    ),
    "shared and circular": (
        "def f(x): x[0].append(1); return x[0] is x[1]\ndef g(x): return x[0] is x",
        "a = []\nassert f([a, a]) and a == [1]\nb = []\nb.append(b)\nassert g(b)",
    ),
    "arguments changed in place": (
        "def f(x, *, y=None):\n    x.sort()\n    if y is not None: y['n'][0][0] = 1; y.pop('m')\n",
        "a = [3, 1]; row = [0]; y = {'n': [row], 'm': 1}\nassert f(a) is None\nassert a == [1, 3]\nf(x=a, y=y)\n"
        "assert y == {'n': [[1]]} and row == [1]",
    ),
    "exceptions": (
        "import json\nclass Odd(ValueError):\n    def __init__(self, n): super().__init__(n); self.n = n\n"
        "def f(x):\n    if x: raise Odd(x)\n    return {}['key']\ndef g(): json.loads('{')",
        """
import json
try: f(3)
except Odd as error: assert error.n == 3 and str(error) == "3" and isinstance(error, ValueError)
try: f(0)
except KeyError as error: assert error.args == ("key",)
else: assert False
try: g()
except json.JSONDecodeError: pass
""",
    ),
    "classes": (
        """
import dataclasses, enum
class Node:
    kind = "node"
    def __init__(self, value, left=None): self.value, self.left = value, left
    def __len__(self): return 1 + (len(self.left) if self.left else 0)
    def __getitem__(self, n): return [self.value][n]
    def __iter__(self): yield from (self.value, 2)
    def __add__(self, other): return Node(self.value + (other.value if isinstance(other, Node) else other))
    def __eq__(self, other): return self.value == other.value
    def __enter__(self): return self
    def __exit__(self, *error): return error[0] is KeyError
    @staticmethod
    def make(): return Node(9)
def depth(node): return len(node)
@dataclasses.dataclass
class Point: x: int = 0
class Color(enum.Enum): RED = 1
""",
        """
root = Node(1)
root.left = Node(2)
assert len(root) == depth(root) == 2 and root.left.value == 2 and root[0] == 1 and list(root) == [1, 2]
assert (root + Node(3)).value == 4 and (root + 3).value == 4 and root == Node(1) and root != Node(2)
assert isinstance(root, Node) and not isinstance(3, Node) and Node.kind == "node" and Node.make().value == 9
with root: raise KeyError
assert Point(2) == Point(x=2) != Point() and repr(Point(2)) == "Point(x=2)" and Color.RED is Color(1)
""",
    ),
    "subclasses of plain classes": (
        "from collections import namedtuple\nfrom enum import IntEnum\nP = namedtuple('P', 'x y')\n"
        "class N(IntEnum): ONE = 1\n"
        "def f(): return P(1, 2)\ndef n(): return N.ONE",
        "assert f() == (1, 2) and f().x == 1 and n() == 1 and n().name == 'ONE'",
    ),
    "iterators and functions": (
        "def f(n):\n    yield from range(n)\ndef g(f, x): return f(x) + 1\ndef h(): return lambda x: x + 1\n"
        "def again(items): return sum(items)",
        """
assert list(f(3)) == [0, 1, 2] and sum(f(3)) == 3 and next(f(1)) == 0
assert g(lambda x: x * 2, 4) == 9 and g(abs, -1) == 2 and g(str.__len__, "ab") == 3 and h()(1) == 2
assert again(x for x in (1, 2)) == 3 and list(map(h(), [1, 2])) == [2, 3]
class Box:
    def __init__(self, value): self.value = value
def read(box): return box.value
assert g(read, Box(4)) == 5
""",
    ),
    "objects of the tests": (
        "def f(box): box.value += 1; return box.double()",
        "class Box:\n    value = 1\n    def double(self): return self.value * 2\n"
        "box = Box()\nassert f(box) == 4 == 2 * box.value",
    ),
    "standard streams": (
        "import sys\ndef f():\n    print(input('? '), sys.stdin.readline().strip())",
        """
import contextlib, io, sys
from unittest import mock
said = io.StringIO()
sys.stdin = io.StringIO("a\\nb\\n")
with contextlib.redirect_stdout(said): f()
assert said.getvalue() == "? a b\\n", said.getvalue()
sys.stdin = io.StringIO("y")
with mock.patch("builtins.input", side_effect=["x"]), contextlib.redirect_stdout(said): f()
assert said.getvalue().endswith("x y\\n")
""",
    ),
    "a task may ask for a built-in name": (
        "def sum(a, b): return a * b",
        "assert sum(3, 5) == 15",
    ),
    "a program may rely on the imports of its tests": (
        "def up(x): return math.ceil(x) + floor(0.5)",
        "import math; from math import (\n    floor)\nassert up(1.5) == 2",
    ),
    "names": (
        "import math\nLIMIT = 3\ndef f(): global LIMIT; LIMIT += 1",
        "f()\nassert LIMIT == 4 and math.ceil(0.5) == 1",
    ),
    "coroutines": (
        "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1",
        "import asyncio\nassert asyncio.run(f(1)) == 2\n"
        "async def both(): return await asyncio.gather(f(1), f(2))\nassert asyncio.run(both()) == [2, 3]",
    ),
    "its own tests": ("def f(): return 1\nassert f() == 1\nprint('so')", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_tests_find_what_they_would_find_in_one_process(case):
    program, tests = SAME[case]
    exec(compile(f"{program}\n{tests}", case, "exec"), {"__name__": "program"}) if case != "standard streams" else None
    outcome = judged(program, tests, name="program")
    assert outcome.ok, outcome.output


def test_how_it_failed_is_the_last_line():
    assert judged("def f(): return {}['a']", "f()").output.endswith("\nKeyError: 'a'\n")
    assert judged("def f(): return 1", "assert f() == 2, f()").output.endswith("\nAssertionError: 1\n")
    assert judged("f(", "f()").output.endswith("SyntaxError: '(' was never closed\n")
    assert judged("def f(): pass", "g()").output.endswith("NameError: name 'g' is not defined\n")
    assert judged("print('said')\nimport os; os._exit(0)", "f()").output.endswith("the program exited before its end\n")
    assert judged("def f():\n    while True: pass", "f()", seconds=1).kind == "timeout"
    deep = "def f(n): return f(n + 1)"
    assert "RecursionError" in judged(deep, "f(0)").output
