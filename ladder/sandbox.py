"""A box for programs that a model wrote: no network, no files but the system's own, nothing to write but a scratch
directory that goes with it, no privileges, and limits on time, memory, processes, file size and output.

Made by bubblewrap for a user, and straight from Linux's namespaces for root. The program itself never runs as root: it
has a user number of its own, no capability, and cannot gain any (inside a chroot a nested user namespace is refused).
Memory is bounded by process (16 of them a program), so a whole box is the first that the kernel ends when memory runs
out. The kernel is shared: for code that is hostile by intent take a virtual machine.
"""

import functools
import itertools
import math
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ladder.run import Refused

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = {
    "bubblewrap": ("bwrap", "choom", "prlimit", "timeout"),
    "namespaces": ("choom", "chroot", "mount", "prlimit", "setpriv", "timeout", "unshare"),
    "none": ("choom", "prlimit", "timeout"),
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}  # a set's order is the same in every run
PYTHON, PREFIX = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", PREFIX]
PROCESSES, OPEN_FILES = 16, 64
WALL = 4  # seconds for a second of CPU time
FILE_BYTES = 16 * 2**20  # of any one file, the program's output among them
SCRATCH_BYTES = 64 * 2**20
DEVICES = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom")]
PROGRAM_CHARACTERS = 2**18
OUTPUT_CHARACTERS = 4000
KILLED, CPU_TIME = {137, -9}, {152, -24}  # exit codes of SIGKILL and SIGXCPU, through a shell and without

# Runs as the program's user. The mark is written when the program has run to its end: `exit(0)` before its tests is
# no pass. (A program can still cheat tests that run inside it, by objects that equal everything for one.)
DRIVER = """\
import os, sys
mark, program, name = sys.stdin.readline(), sys.stdin.read(), sys.argv[1]
print(mark, end="", flush=True)
module = sys.modules[name] = type(sys)(name)
sys.argv[:] = ["program.py"]
exec(compile(program, "program.py", "exec"), vars(module))
sys.stdout.flush()
os.write(1, mark.encode())
"""

# Runs as root in namespaces of its own. /sys, which the program does without, is where the box's root is mounted.
# The shell stays: it is the first process of the namespace, and with it all others die. One call makes all the mounts,
# since starting a program costs more than what it does here.
BOX = """\
set -e
user=$1 seconds=$2; shift 2
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev box /sys
cd /sys
mkdir -p {folders}
for file in {files}; do : > "$file"; done
for link in {links}; do cp -P "/$link" "$link"; done
printf %s {table} > tmp/table
mount --all --fstab tmp/table
mount -o remount,ro .
chroot . env -i -C /tmp {environment} timeout -s KILL "$seconds" setpriv --reuid="$user" --regid="$user" \\
    --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""

Kind = Literal["passed", "failed", "timeout", "refused"]
_slots = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `passed` ran to its end, `failed` raised or left early, `timeout` was stopped, `refused`
    was too long to be run; and the end of what it printed."""

    ok: bool
    kind: Kind
    output: str


def run_python(program: str, *, seconds: float = 10.0, memory_mb: int = 1024, name: str = "__main__") -> Outcome:
    """Run a Python program (standard library only) in the box.

    `seconds` bounds the CPU time of each of its processes, and four times that its wall time: a verdict must not hang
    on how busy the machine is. `memory_mb` bounds the address space of each process. `name` is its `__name__`, by
    which it can tell whether it is run as a script.
    Errors: Refused where no box can be made, unless LADDER_UNSANDBOXED is `yes`; and where one cannot be started.
    """
    isolation()
    if len(program) > PROGRAM_CHARACTERS:
        return Outcome(False, "refused", f"a program of {len(program)} characters; at most {PROGRAM_CHARACTERS}")
    # A box that is killed before any limit of its own: memory ran out on the machine (the kernel ends boxes first), or
    # the program killed itself. Only the second happens again.
    started, early, outcome = _attempt(program, seconds, memory_mb, name)
    if early or not started:
        started, early, outcome = _attempt(program, seconds, memory_mb, name)
    if not started:
        raise Refused(f"the sandbox did not start a program, twice: {outcome.output or 'it was killed'}")
    return outcome


def _attempt(program: str, seconds: float, memory_mb: int, name: str) -> tuple[bool, bool, Outcome]:
    """(whether it began, whether it was killed before its time, how it ended)."""
    mark = secrets.token_hex(16)
    text = f"{mark}\n{program}".encode("utf-8", "surrogatepass")
    command = _command(isolation(), seconds, memory_mb, name)
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        code = _run(command, text, output, WALL * seconds + 10)  # the box keeps the time; this is the outer limit
        early = code in KILLED and time.monotonic() - begun < seconds
        size = output.seek(0, os.SEEK_END)
        output.seek(0)
        started = output.readline(len(mark) + 1).decode("utf-8", "replace") == f"{mark}\n"
        output.seek(max(output.tell(), size - 4 * OUTPUT_CHARACTERS))
        said = output.read().decode("utf-8", "replace")
    return started, early, _outcome(code, said, f"{mark}\n")


def run_many(
    programs: Iterable[str],
    *,
    seconds: float = 10.0,
    memory_mb: int = 1024,
    name: str = "__main__",
    workers: int | None = None,
) -> list[Outcome]:
    """Run programs side by side (`workers`; by default one a core), each in a box of its own, in their order."""

    def one(program: str) -> Outcome:
        return run_python(program, seconds=seconds, memory_mb=memory_mb, name=name)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, programs))


@functools.cache
def isolation() -> Literal["bubblewrap", "namespaces", "none"]:
    """What stands around a program here, tried once. Errors: Refused where nothing does and nobody said `yes`."""
    # Root makes the namespaces itself: inside bubblewrap root's programs stay root's to the kernel, which does not
    # count them against a limit on processes.
    kind: Literal["bubblewrap", "namespaces"] = "bubblewrap" if os.getuid() else "namespaces"
    if _boxes(kind):
        return kind
    if os.environ.get("LADDER_UNSANDBOXED") == "yes" and _boxes("none"):
        print("sandbox: LADDER_UNSANDBOXED=yes: programs that a model wrote run with your rights", file=sys.stderr)
        return "none"
    raise Refused(
        "no sandbox for programs that a model wrote: install bubblewrap (bwrap) and allow user namespaces, or run as "
        "root with the right to make namespaces; LADDER_UNSANDBOXED=yes runs them with your own rights"
    )


def _boxes(kind: str) -> bool:
    """Whether a box of this kind can be made here: Python starts in it and ends."""
    if not all(shutil.which(tool, path=PATH) for tool in TOOLS[kind]):
        return False
    with tempfile.TemporaryFile() as output:
        code = _run(_command(kind, 10, 512, "__main__"), b"mark\n", output, 20)
        output.seek(0)
        return code == 0 and output.read() == b"mark\nmark\n"


def _run(command: list[str], text: bytes, output: IO[bytes], seconds: float) -> int:
    """The exit code; 137 when it had to be killed from outside."""
    try:
        done = subprocess.run(
            command, input=text, stdout=output, stderr=output, timeout=seconds, env={"PATH": PATH}, cwd="/", check=False
        )
    except subprocess.TimeoutExpired:
        return 137
    return done.returncode


def _command(kind: str, seconds: float, memory_mb: int, name: str) -> list[str]:
    first = ["choom", "-n", "1000", "--"]
    limits = ["prlimit", f"--as={memory_mb * 2**20}", f"--fsize={FILE_BYTES}", f"--nofile={OPEN_FILES}", "--core=0"]
    limits += [f"--cpu={math.ceil(seconds)}:{math.ceil(seconds) + 1}"]
    # -S: site-packages would make a program pass on one machine and fail on another.
    python = [PYTHON, "-s", "-P", "-S", "-X", "utf8", "-c", DRIVER, name]
    timed = ["timeout", "-s", "KILL", str(WALL * seconds)]
    if kind == "none":
        return [*first, *timed, *limits, "env", "-i", *_assignments(), *python]
    if kind == "bubblewrap":
        return [*first, *_bubblewrap(), *timed, *limits, f"--nproc={PROCESSES}", *python]
    # A user number of its own (of numbers that no system gives away), so that the process limit counts its box alone.
    user = 61184 + (os.getpid() + next(_slots)) % 4096
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    box = ["sh", "-c", _box(), "box", str(user), str(WALL * seconds), *python]
    return [*first, *limits, f"--nproc={PROCESSES}", *unshare, *box]


def _assignments() -> list[str]:
    return [f"{name}={value}" for name, value in ENVIRONMENT.items()]


def _places() -> list[Path]:
    """What of the system the box shows, each once."""
    places = [Path(place) for place in SYSTEM if Path(place).exists()]
    return [place for place in places if not any(other in place.parents for other in places)]


@functools.cache
def _box() -> str:
    links = [place for place in _places() if place.is_symlink()]
    bound = [place for place in _places() if place not in links]
    files = [*DEVICES, *(place for place in bound if not place.is_dir())]
    folders = [Path("/tmp"), *(place.parent for place in files), *(place for place in bound if place.is_dir())]
    table = [f"{_field(place)} {_field(Path('/sys') / _inside(place))} none bind" for place in DEVICES]
    table += [f"{_field(place)} {_field(Path('/sys') / _inside(place))} none bind,ro,nosuid,nodev" for place in bound]
    table += [f"scratch /sys/tmp tmpfs size={SCRATCH_BYTES},mode=1777,nosuid,nodev"]
    return BOX.format(
        folders=shlex.join(map(_inside, folders)),
        files=shlex.join(map(_inside, files)),
        links=shlex.join(map(_inside, links)),
        table=shlex.quote("".join(f"{line}\n" for line in table)),
        environment=shlex.join(_assignments()),
    )


def _inside(place: Path) -> str:
    return str(place.relative_to("/"))


def _field(place: Path) -> str:
    """A path as fstab(5) has it."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in str(place))


def _bubblewrap() -> list[str]:
    alone = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    ends = ["--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv"]
    variables = [part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value)]
    binds = [part for place in map(str, _places()) for part in ("--ro-bind", place, place)]
    binds += [part for device in map(str, DEVICES) for part in ("--dev-bind", device, device)]
    scratch = ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    return ["bwrap", *alone, *ends, *variables, *binds, *scratch]


def _outcome(code: int, said: str, mark: str) -> Outcome:
    if code in KILLED | CPU_TIME:
        return Outcome(False, "timeout", said[-OUTPUT_CHARACTERS:])
    passed = code == 0 and said.endswith(mark)
    return Outcome(passed, "passed" if passed else "failed", said.removesuffix(mark)[-OUTPUT_CHARACTERS:])
