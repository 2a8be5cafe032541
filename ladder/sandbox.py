"""A box for programs that a model wrote: no network, no files but the system's own, nothing to write but a scratch
directory that goes with it, no privileges, and limits on time, memory, processes, file size and output.

Made by bubblewrap for a user, and straight from Linux's namespaces for root. The program itself never runs as root: it
has a user number of its own, no capability, and cannot gain any (inside a chroot a nested user namespace is refused).
The kernel is shared: for code that is hostile by intent take a virtual machine.
"""

import functools
import itertools
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ladder.run import Refused

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = {
    "bubblewrap": ("bwrap", "prlimit", "timeout"),
    "namespaces": ("chroot", "mount", "prlimit", "setpriv", "timeout", "unshare"),
    "none": ("prlimit", "timeout"),
}
PYTHON, PREFIX = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", PREFIX]
PROCESSES, OPEN_FILES = 16, 64
FILE_BYTES = 16 * 2**20  # of any one file, the program's output among them
SCRATCH = "64m"
PROGRAM_CHARACTERS = 2**18
OUTPUT_CHARACTERS = 4000
KILLED, CPU_TIME = {137, -9}, {152, -24}  # exit codes of SIGKILL and SIGXCPU, through a shell and without

# Runs as the program's user. The mark is written when the program has run to its end: `exit(0)` before its tests is
# no pass. (A program can still cheat tests that run inside it, by objects that equal everything for one.)
DRIVER = """\
import os, sys
mark, program = sys.stdin.readline(), sys.stdin.read()
print(mark, end="", flush=True)
exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
sys.stdout.flush()
os.write(1, mark.encode())
"""

# Runs as root in namespaces of its own. /sys, which the program does without, is where the box's root is mounted.
# The shell stays: it is the first process of the namespace, and with it all others die.
BOX = """\
set -e
user=$1 seconds=$2 scratch=$3; shift 3
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev box /sys
cd /sys
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p ".$1"; elif [ -e "$1" ]; then mkdir -p ".${1%/*}"; touch ".$1"; fi
    if [ -e "$1" ]; then mount --bind -o ro,nosuid,nodev "$1" ".$1"; fi
    shift
done
shift
mkdir dev tmp
for device in null zero urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mount -t tmpfs -o size="$scratch",mode=1777,nosuid,nodev scratch tmp
mount -o remount,ro .
chroot . env -i -C /tmp PATH=/usr/bin:/bin timeout -s KILL "$seconds" setpriv --reuid="$user" --regid="$user" \\
    --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""

Kind = Literal["passed", "failed", "timeout", "refused"]
_slots = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `passed` ran to its end, `failed` raised or left early, `timeout` was stopped, `refused`
    never ran; and the end of what it printed."""

    ok: bool
    kind: Kind
    output: str


def run_python(program: str, *, seconds: float = 10.0, memory_mb: int = 1024) -> Outcome:
    """Run a Python program (standard library only) in the box.

    `seconds` bounds its wall and CPU time, `memory_mb` the address space of each of its processes.
    Errors: Refused where no box can be made, unless LADDER_UNSANDBOXED is `yes`.
    """
    kind = isolation()
    if len(program) > PROGRAM_CHARACTERS:
        return Outcome(False, "refused", f"a program of {len(program)} characters; at most {PROGRAM_CHARACTERS}")
    mark = secrets.token_hex(16)
    text = f"{mark}\n{program}".encode("utf-8", "surrogatepass")
    command = _command(kind, seconds, memory_mb)
    with tempfile.TemporaryFile() as output:
        code = _run(command, text, output, seconds + 10)  # the box keeps the time itself; this is the outer limit
        size = output.seek(0, os.SEEK_END)
        output.seek(0)
        started = output.readline(len(mark) + 1).decode("utf-8", "replace") == f"{mark}\n"
        output.seek(max(output.tell(), size - 4 * OUTPUT_CHARACTERS))
        said = output.read().decode("utf-8", "replace")
    return _outcome(code, said, f"{mark}\n", started)


def run_many(
    programs: Iterable[str], *, seconds: float = 10.0, memory_mb: int = 1024, workers: int | None = None
) -> list[Outcome]:
    """Run programs side by side (`workers`; by default one a core), each in a box of its own, in their order."""

    def one(program: str) -> Outcome:
        return run_python(program, seconds=seconds, memory_mb=memory_mb)

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
        code = _run(_command(kind, 10, 512), b"mark\n", output, 20)
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


def _command(kind: str, seconds: float, memory_mb: int) -> list[str]:
    limits = ["prlimit", f"--as={memory_mb * 2**20}", f"--fsize={FILE_BYTES}", f"--nofile={OPEN_FILES}", "--core=0"]
    limits += [f"--cpu={math.ceil(seconds)}:{math.ceil(seconds) + 1}"]
    python = [PYTHON, "-I", "-X", "utf8", "-c", DRIVER]
    timed = ["timeout", "-s", "KILL", str(seconds)]
    if kind == "none":
        return [*timed, *limits, "env", "-i", *python]
    if kind == "bubblewrap":
        return [*_bubblewrap(), *timed, *limits, f"--nproc={PROCESSES}", *python]
    # A user number of its own (of numbers that no system gives away), so that the process limit counts its box alone.
    user = 61184 + (os.getpid() + next(_slots)) % 4096
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    box = ["sh", "-c", BOX, "box", str(user), str(seconds), SCRATCH, *SYSTEM, "--", *python]
    return [*limits, f"--nproc={PROCESSES}", *unshare, *box]


def _bubblewrap() -> list[str]:
    binds = [part for place in SYSTEM if Path(place).exists() for part in ("--ro-bind", place, place)]
    alone = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    ends = [
        "--cap-drop",
        "ALL",
        "--new-session",
        "--die-with-parent",
        "--clearenv",
        "--setenv",
        "PATH",
        "/usr/bin:/bin",
    ]
    return ["bwrap", *alone, *ends, *binds, "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]


def _outcome(code: int, said: str, mark: str, started: bool) -> Outcome:
    if not started:
        return Outcome(False, "refused", said[-OUTPUT_CHARACTERS:])
    if code in KILLED | CPU_TIME:
        return Outcome(False, "timeout", said[-OUTPUT_CHARACTERS:])
    passed = code == 0 and said.endswith(mark)
    return Outcome(passed, "passed" if passed else "failed", said.removesuffix(mark)[-OUTPUT_CHARACTERS:])
