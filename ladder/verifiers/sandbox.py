"""Sandbox for programs that a model wrote.

A program has no network and no privileges, can read only system files, and writes only to a scratch directory. CPU
time, wall time, memory, processes, file size and output are limited. A filter denies system calls that would bypass
these limits. For a normal user bubblewrap creates the sandbox; for root, Linux namespaces are used directly.

Tests run in a separate process (ladder.verifiers.boxed), so a program cannot decide whether it passes. docs/sandbox.md
lists the attacks that were tried on both. The kernel is shared with the host: for code that is hostile by intent use a
virtual machine.
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
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}  # fixed hash seed: same set order in every run
PYTHON, PREFIX = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", PREFIX]
PROCESSES, OPEN_FILES = 16, 64
WALL = 4  # seconds of wall time per second of CPU time
FILE_BYTES = 16 * 2**20  # of any single file, including the program's output
SCRATCH_BYTES = 64 * 2**20
SCRATCH_FILES = 4096
DEVICES = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/urandom")]
PROGRAM_CHARACTERS = 2**18
OUTPUT_CHARACTERS = 4000
KILLED, CPU_TIME = {137, -9}, {152, -24}  # exit codes of SIGKILL and SIGXCPU, with a shell and without

BEGAN = b"began\n"

# Runs as root in its own namespaces. The sandbox root is mounted on /sys, which the program does not need. The shell
# keeps running as the namespace's first process; when it ends, all other processes end. A single call makes all mounts,
# because starting a process costs more than the mounts.
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
    """A program and its tests. Tests use the program's names as if they were appended to it."""

    text: str
    tests: str = ""


@dataclass(frozen=True)
class Outcome:
    """Result of a program and the end of its output.

    Kinds: `passed` (program and tests ran to their end), `failed` (raised or exited early), `timeout` (stopped),
    `refused` (too long to run).
    """

    ok: bool
    kind: Kind
    output: str


def run_python(
    program: str | Program, *, seconds: float = 10.0, memory_mb: int = 1024, name: str = "__main__"
) -> Outcome:
    """Run a Python program (standard library only) in the sandbox, then its tests.

    `seconds` limits the CPU time of each process; the wall time limit is four times that, so that a verdict does not
    depend on the machine's load. `memory_mb` limits the address space of each process. `name` is the program's
    `__name__`. A program without tests passes when it runs to its end, which it can fake: judge programs by tests.
    Errors: UserError if no sandbox is available, unless LADDER_UNSANDBOXED is `yes`; also if a sandbox does not start.
    """
    if isinstance(program, str):
        program = Program(program)
    isolation()
    size = len(program.text) + len(program.tests)
    if size > PROGRAM_CHARACTERS:
        return Outcome(False, "refused", f"the program has {size} characters; expected at most {PROGRAM_CHARACTERS}")
    # Killed before any of its own limits: either the machine ran out of memory (the kernel kills sandboxes first), or
    # the program killed itself. Only the second case repeats, so try twice.
    for _ in range(2):
        started, early, outcome = _attempt(isolation(), program, seconds, memory_mb, name)
        if started and not early:
            break
    if not started:
        raise UserError(f"the sandbox failed twice to start a program: {outcome.output or 'it was killed'}")
    return outcome


def _attempt(kind: str, program: Program, seconds: float, memory_mb: int, name: str) -> tuple[bool, bool, Outcome]:
    """Run once; return (whether it started, whether it was killed before its time limit, the outcome)."""
    nonce = secrets.token_hex(16)
    sent = message(nonce, name, program.text, program.tests)
    # The program's process does not have the pipe for the verdict. If its reader is gone, the sandbox ends.
    verdict, verdict_end = os.pipe()
    try:
        with tempfile.TemporaryFile() as output:
            begun = time.monotonic()
            try:
                command = _command(kind, seconds, memory_mb, verdict_end)
                # The sandbox enforces the time limit; this timeout is a fallback.
                code = _run(command, sent, output.fileno(), verdict_end, WALL * seconds + 10)
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
    """Read the pipe's current content without blocking: an escaped process may still hold the write end open."""
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
    """Run programs in parallel (`workers`, default one per core), each in its own sandbox; results keep the order."""

    def one(program: str | Program) -> Outcome:
        return run_python(program, seconds=seconds, memory_mb=memory_mb, name=name)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, programs))


@functools.cache
def isolation() -> Literal["bubblewrap", "namespaces", "none"]:
    """Select and test this machine's isolation, once.

    Errors: UserError if there is none, unless LADDER_UNSANDBOXED is `yes`.
    """
    # As root, namespaces are used directly: inside bubblewrap, root's processes still belong to root for the kernel,
    # which does not count them against a process limit.
    kind: Literal["bubblewrap", "namespaces"] = "bubblewrap" if os.getuid() else "namespaces"
    if _boxes(kind):
        return kind
    if os.environ.get("LADDER_UNSANDBOXED") == "yes" and _boxes("none"):
        print("sandbox: LADDER_UNSANDBOXED=yes: programs that a model wrote run with your permissions", file=sys.stderr)
        return "none"
    raise UserError(
        "sandbox: not available for programs that a model wrote. Install bubblewrap (bwrap) and allow user namespaces, "
        "or run as root with the right to create namespaces; LADDER_UNSANDBOXED=yes runs them with your permissions."
    )


def _boxes(kind: str) -> bool:
    """Whether this isolation works here: Python starts in it with the system call filter, and ends."""
    if filters() is None or not all(shutil.which(tool, path=PATH) for tool in TOOLS[kind]):
        return False
    return _attempt(kind, Program("made = 1", "assert made == 1"), 10, 512, "__main__")[2].ok


def _run(command: list[str], sent: bytes, output: int, verdict: int, seconds: float) -> int:
    """Run a command; return its exit code, or 137 if it had to be killed from outside."""
    try:
        done = subprocess.run(
            command, input=sent, stdout=output, stderr=output, timeout=seconds, pass_fds=(verdict,),
            env={"PATH": PATH}, cwd="/", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 137
    return done.returncode


def _command(kind: str, seconds: float, memory_mb: int, verdict: int) -> list[str]:
    # The sandbox ends with this process: `--kill-child` and `--die-with-parent` pass that on into it.
    first = ["setpriv", "--pdeathsig", "KILL"]
    limits = ["prlimit", f"--as={memory_mb * 2**20}", f"--fsize={FILE_BYTES}", f"--nofile={OPEN_FILES}", "--core=0"]
    limits += [f"--cpu={math.ceil(seconds)}:{math.ceil(seconds) + 1}"]
    # -S: with site-packages, a program could pass on one machine and fail on another.
    python = [PYTHON, "-s", "-P", "-S", "-X", "utf8", "-c", BOOT, str(verdict)]
    scored = ["choom", "-n", "1000", "--"]
    timed = ["timeout", "-s", "KILL", str(WALL * seconds)]
    if kind == "none":
        return [*first, *scored, *timed, *limits, "env", "-i", *_assignments(), *python]
    if kind == "bubblewrap":
        return [*first, *scored, *_bubblewrap(), *timed, *limits, f"--nproc={PROCESSES}", *python]
    # A unique user id (from a range that no system assigns), so that the process limit counts only this sandbox.
    user = 61184 + (os.getpid() + next(_slots)) % 4096
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    box = ["sh", "-c", _box(), "box", str(user), str(WALL * seconds), *python]
    return [*first, *limits, f"--nproc={PROCESSES}", *unshare, *box]


def _assignments() -> list[str]:
    return [f"{name}={value}" for name, value in ENVIRONMENT.items()]


def _places() -> list[Path]:
    """System paths that are visible in the sandbox, without duplicates."""
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
    """Escape a path for a field of fstab(5)."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in str(place))


def _bubblewrap() -> list[str]:
    alone = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    ends = ["--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv"]
    variables = [part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value)]
    binds = [part for place in map(str, _places()) for part in ("--ro-bind", place, place)]
    binds += [part for device in map(str, DEVICES) for part in ("--dev-bind", device, device)]
    scratch = ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    return ["bwrap", *alone, *ends, *variables, *binds, *scratch]
