"""What the sandbox's Python reads: this package as bytecode, the system call filter, then the program and its tests."""

import functools
import marshal
from pathlib import Path
from types import ModuleType

from ladder.verifiers import boxed
from ladder.verifiers.boxed import channel, judging, proxies, values
from ladder.verifiers.system_calls import filters

# Python's start code; the rest comes by standard input, which is read without reading ahead.
BOOT = """\
import marshal, os, sys
def read(size):
    parts = []
    while size:
        part = os.read(0, min(size, 65536))
        if not part: os._exit(1)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
def take():
    return read(int.from_bytes(read(8), "big"))
for name, code in marshal.loads(take()):
    module = sys.modules[name] = type(sys)(name)
    exec(code, vars(module))
module.main(take, int(sys.argv[1]))
"""
# Each after those that it imports. Imported here too, so that code which looks for imports finds them.
MODULES: tuple[ModuleType, ...] = (boxed, proxies, values, channel, judging)


def message(nonce: str, name: str, program: str, tests: str) -> bytes:
    """Standard input of the box. The program's process is forked before anything after the filter is read."""
    texts = [text.encode("utf-8", "surrogatepass") for text in (nonce, name, program, tests)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in (_bytecode(), filters() or b"", *texts))


@functools.cache
def _bytecode() -> bytes:
    """Compiled here, once: compiling it in the box would cost each program 10 ms."""
    codes = []
    for module in MODULES:
        path = Path(str(module.__file__))
        source = path.read_text(encoding="utf-8")
        code = compile(source, f"boxed/{path.name}", "exec", dont_inherit=True, optimize=0)
        codes.append((module.__name__, code))
    return marshal.dumps(codes)
