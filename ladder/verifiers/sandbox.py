"""Sandbox for programs that a model wrote.

A program has no network, sees the system's own files alone, writes to a scratch directory, and has no privileges.
Time, memory, processes, file size and output are limited, and a filter denies system calls that would pass by the
limits. bubblewrap makes the box for a user, and Linux's namespaces directly for root.

Tests run in a process of their own, outside the program's (ladder.verifiers.boxed): a program does not decide whether
it passes. docs/sandbox.md lists what was tried against both. The kernel is shared with the machine: for code that is
hostile by intent use a virtual machine.
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
from typing import Literal

from ladder.pipeline.stage import UserError
from ladder.verifiers.boxed.sending import BOOT, message
from ladder.verifiers.system_calls import filters

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = {
    "bubblewrap": ("bwrap", "choom", "prlimit", "setpriv", "timeout"),
    "namespaces": ("chroot", "mount", "prlimit", "setpriv", "timeout", "unshare"),
    "none": ("choom", "prlimit", "setpriv", "timeout"),
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}  # a set's order is the same in every run
PYTHON, PREFIX = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", PREFIX]
PROCESSES, OPEN_FILES = 16, 64
WALL = 4  # seconds for a second of CPU time
FILE_BYTES = 16 * 2**20  # of any one file, the program's output among them
SCRATCH_BYTES = 64 * 2**20
SCRATCH_FILES = 4096
DEVICES = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom")]
PROGRAM_CHARACTERS = 2**18
OUTPUT_CHARACTERS = 4000
KILLED, CPU_TIME = {137, -9}, {152, -24}  # exit codes of SIGKILL and SIGXCPU, through a shell and without

BEGAN = b"began\n"

# Runs as root in namespaces of its own. /sys, which the program does without, is where the box's root is mounted.
# The shell stays: it is the first process of the namespace, and with it all others die. One call makes all the mounts,
# since starting a program costs more than what it does here.
BOX = """\
set -e
echo 1000 > /proc/self/oom_score_adj
user=$1 seconds=$2; shift 2
mount -t tmpfs -o size=1m,nr_inodes=1024,mode=755,nosuid,nodev box /sys
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
class Program:
    """A program and the tests that judge it. Tests use the program's names as if they stood below it."""

    text: str
    tests: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and the end of its output: `passed` (it and its tests ran to their end), `failed` (raised or
    left early), `timeout` (stopped), `refused` (too long to run)."""

    ok: bool
    kind: Kind
    output: str


def run_python(
    program: str | Program, *, seconds: float = 10.0, memory_mb: int = 1024, name: str = "__main__"
) -> Outcome:
    """Run a Python program (standard library only) in the sandbox, then its tests.

    `seconds` limits the CPU time of each process, and four times that limits the wall time, so that a verdict does not
    depend on the load of the machine. `memory_mb` limits the address space of each process. `name` is the program's
    `__name__`. A program without tests passes when it runs to its end, which it can imitate: judge a program by tests.
    Errors: UserError where no sandbox can be made, unless LADDER_UNSANDBOXED is `yes`; and where one does not start.
    """
    if isinstance(program, str):
        program = Program(program)
    isolation()
    size = len(program.text) + len(program.tests)
    if size > PROGRAM_CHARACTERS:
        return Outcome(False, "refused", f"a program of {size} characters; at most {PROGRAM_CHARACTERS}")
    # A box that is killed before any limit of its own: memory ran out on the machine (the kernel ends boxes first), or
    # the program killed itself. Only the second happens again.
    for _ in range(2):
        started, early, outcome = _attempt(isolation(), program, seconds, memory_mb, name)
        if started and not early:
            break
    if not started:
        raise UserError(f"the sandbox did not start a program, twice: {outcome.output or 'it was killed'}")
    return outcome


def _attempt(kind: str, program: Program, seconds: float, memory_mb: int, name: str) -> tuple[bool, bool, Outcome]:
    """(whether it began, whether it was killed before its time, how it ended)."""
    nonce = secrets.token_hex(16)
    sent = message(nonce, name, program.text, program.tests)
    # The verdict comes through a pipe that the program's process does not have. Nobody at its other end: the box ends.
    verdict, verdict_end = os.pipe()
    try:
        with tempfile.TemporaryFile() as output:
            begun = time.monotonic()
            try:
                command = _command(kind, seconds, memory_mb, verdict_end)
                code = _run(command, sent, output.fileno(), verdict_end, WALL * seconds + 10)  # the box keeps the time
            finally:
                os.close(verdict_end)
            early = code in KILLED and time.monotonic() - begun < seconds
            said = _read_nothing_more(verdict)
            output.seek(max(0, output.seek(0, os.SEEK_END) - 4 * OUTPUT_CHARACTERS))
            printed = output.read().decode("utf-8", "replace")[-OUTPUT_CHARACTERS:]
    finally:
        os.close(verdict)
    if code in KILLED | CPU_TIME:
        return said.startswith(BEGAN), early, Outcome(False, "timeout", printed)
    passed = code == 0 and said == BEGAN + nonce.encode()
    return said.startswith(BEGAN), early, Outcome(passed, "passed" if passed else "failed", printed)


def _read_nothing_more(pipe: int) -> bytes:
    """What is in a pipe now; a process that escaped its end may still have the other side open."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 4096)
    except BlockingIOError:
        return b""


def run_many(
    programs: Iterable[str | Program],
    *,
    seconds: float = 10.0,
    memory_mb: int = 1024,
    name: str = "__main__",
    workers: int | None = None,
) -> list[Outcome]:
    """Run programs side by side (`workers`; by default one a core), each in a box of its own, in their order."""

    def one(program: str | Program) -> Outcome:
        return run_python(program, seconds=seconds, memory_mb=memory_mb, name=name)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, programs))


@functools.cache
def isolation() -> Literal["bubblewrap", "namespaces", "none"]:
    """What stands around a program here, tried once. Errors: UserError where nothing does and nobody said `yes`."""
    # Root makes the namespaces itself: inside bubblewrap root's programs stay root's to the kernel, which does not
    # count them against a limit on processes.
    kind: Literal["bubblewrap", "namespaces"] = "bubblewrap" if os.getuid() else "namespaces"
    if _boxes(kind):
        return kind
    if os.environ.get("LADDER_UNSANDBOXED") == "yes" and _boxes("none"):
        print("sandbox: LADDER_UNSANDBOXED=yes: programs that a model wrote run with your rights", file=sys.stderr)
        return "none"
    raise UserError(
        "no sandbox for programs that a model wrote: install bubblewrap (bwrap) and allow user namespaces, or run as "
        "root with the right to make namespaces; LADDER_UNSANDBOXED=yes runs them with your own rights"
    )


def _boxes(kind: str) -> bool:
    """Whether this kind of box can be made here: Python starts in it, with its filter, and ends."""
    if filters() is None or not all(shutil.which(tool, path=PATH) for tool in TOOLS[kind]):
        return False
    return _attempt(kind, Program("made = 1", "assert made == 1"), 10, 512, "__main__")[2].ok


def _run(command: list[str], sent: bytes, output: int, verdict: int, seconds: float) -> int:
    """The exit code; 137 when it had to be killed from outside."""
    try:
        done = subprocess.run(
            command, input=sent, stdout=output, stderr=output, timeout=seconds, pass_fds=(verdict,),
            env={"PATH": PATH}, cwd="/", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 137
    return done.returncode


def _command(kind: str, seconds: float, memory_mb: int, verdict: int) -> list[str]:
    # Ends with this process: `--kill-child` and `--die-with-parent` pass that on into the box.
    first = ["setpriv", "--pdeathsig", "KILL"]
    limits = ["prlimit", f"--as={memory_mb * 2**20}", f"--fsize={FILE_BYTES}", f"--nofile={OPEN_FILES}", "--core=0"]
    limits += [f"--cpu={math.ceil(seconds)}:{math.ceil(seconds) + 1}"]
    # -S: site-packages would make a program pass on one machine and fail on another.
    python = [PYTHON, "-s", "-P", "-S", "-X", "utf8", "-c", BOOT, str(verdict)]
    scored = ["choom", "-n", "1000", "--"]
    timed = ["timeout", "-s", "KILL", str(WALL * seconds)]
    if kind == "none":
        return [*first, *scored, *timed, *limits, "env", "-i", *_assignments(), *python]
    if kind == "bubblewrap":
        return [*first, *scored, *_bubblewrap(), *timed, *limits, f"--nproc={PROCESSES}", *python]
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
    table += [f"scratch /sys/tmp tmpfs size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=1777,nosuid,nodev"]
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
