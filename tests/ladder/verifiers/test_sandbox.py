"""Every probe is bounded by itself: counted forks, capped allocations, an end. A failing sandbox does no harm."""

import ctypes
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ladder.pipeline.stage import UserError
from ladder.verifiers import sandbox
from ladder.verifiers.boxed.sending import message
from ladder.verifiers.sandbox import run_many, run_python
from ladder.verifiers.system_calls import DENIED, filters

pytestmark = pytest.mark.usefixtures("boxed")


def output(program, **limits):
    outcome = run_python(program, **limits)
    assert outcome.kind == "passed", outcome
    return outcome.output.strip()


def test_a_program_passes_only_at_its_end():
    assert run_python("print('ü')\nassert 1 + 1 == 2") == sandbox.Outcome(True, "passed", "ü\n")
    failed = run_python("print(3)\nassert 1 + 1 == 3")
    assert (failed.kind, "AssertionError" in failed.output) == ("failed", True)
    assert run_python("def f(:").kind == "failed"
    for early in ("import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"):
        assert run_python(f"{early}\nassert False").kind == "failed"
    assert run_python("#" * 10**6).kind == "refused"


def test_programs_side_by_side_keep_their_order():
    outcomes = run_many([f"print({n})\nassert {n} % 2 == 0" for n in range(4)], workers=2)
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]
    assert outcomes[2].output == "2\n"


def test_time_ends_it():
    assert run_python("while True: pass", seconds=1).kind == "timeout"
    assert run_python("import time; time.sleep(20)", seconds=0.5).kind == "timeout"
    deaf = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(20)"
    assert run_python(deaf, seconds=0.5).kind == "timeout"


def test_a_forked_child_does_not_outlive_it():
    name = f"outlived{os.getpid() % 10**6}"
    child = f"""
import ctypes, os, time
if os.fork() == 0:
    os.setsid()
    ctypes.CDLL(None).prctl(15, b"{name}")
    time.sleep(30)
    os._exit(0)
time.sleep(0.2)
"""
    assert run_python(child, seconds=10).kind == "passed"
    until = time.monotonic() + 10  # bubblewrap ends before the kernel has ended all processes in it
    while name in (names := {read(path) for path in Path("/proc").glob("[0-9]*/comm")}) and time.monotonic() < until:
        os.sched_yield()
    assert name not in names


def test_memory_ends_it():
    assert "MemoryError" in run_python("x = bytearray(600 * 2**20)", memory_mb=256).output
    assert output("print(len(bytearray(100 * 2**20)))", memory_mb=512) == str(100 * 2**20)


def test_processes_are_counted():
    forks = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
    assert 1 <= int(output(forks)) <= sandbox.PROCESSES


def test_a_box_that_something_else_killed_is_run_once_more(monkeypatch):
    # For example, the machine ran out of memory: the program is not at fault.
    run, codes = sandbox._run, []

    def killed_at_first(*arguments):
        codes.append(run(*arguments))
        return 137 if len(codes) == 1 else codes[-1]

    monkeypatch.setattr(sandbox, "_run", killed_at_first)
    assert run_python("print(1)").ok
    assert codes == [0, 0]
    assert run_python("import os; os.kill(os.getpid(), 9)").kind == "timeout"
    monkeypatch.setattr(sandbox, "_run", lambda *arguments: 137)
    with pytest.raises(UserError, match="the sandbox failed twice to start a program: it was killed"):
        run_python("print(1)")


def test_threads_are_counted_too():
    threads = """
import threading
stop, made = threading.Event(), 0
try:
    while made < 200:
        threading.Thread(target=stop.wait, args=(5,), daemon=True).start()
        made += 1
except RuntimeError:
    pass
stop.set()
print(made)
"""
    assert 1 <= int(output(threads)) <= sandbox.PROCESSES


def test_the_kernel_ends_a_box_before_anything_else():
    name = f"score{os.getpid() % 10**6}"
    program = f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}')\nwhile True: pass"
    thread = threading.Thread(target=run_python, args=(program,), kwargs={"seconds": 1})
    thread.start()
    found = []
    while thread.is_alive() and not found:
        found = [path for path in Path("/proc").glob("[0-9]*/comm") if read(path) == name]
    assert read(found[0].with_name("oom_score_adj")) == "1000"
    thread.join()


def read(path):
    try:
        return path.read_text().strip()
    except OSError:  # the process has ended
        return ""


def test_endless_output_and_large_files_are_cut():
    said = run_python("for _ in range(2000): print('x' * 2**16)")
    assert (said.kind, len(said.output)) == ("failed", sandbox.OUTPUT_CHARACTERS)
    said = run_python("import os\nfor _ in range(2000): os.write(2, b'x' * 2**16)")
    assert (said.kind, len(said.output)) == ("failed", sandbox.OUTPUT_CHARACTERS)
    large = "with open('f', 'wb') as file:\n    for _ in range(64): file.write(b'x' * 2**20)"
    assert "File too large" in run_python(large).output
    many = f"for n in range(8):\n    with open(f'f{{n}}', 'wb') as file: file.write(b'x' * {sandbox.FILE_BYTES - 1})"
    assert "No space left" in run_python(many).output


def test_no_socket_is_made_but_a_pair():
    probe = """
import ctypes, socket
made = []
for family in range(46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind).close()
            made.append((family, kind))
        except OSError as error:
            made += [error.errno] if error.errno != 97 else []
print(made)
try: socket.socketpair(socket.AF_NETLINK)
except OSError as error: print(error.errno)
one, other = socket.socketpair()
one.send(b"x")
print(other.recv(1), ctypes.CDLL(None).syscall(425, 1, 0))
"""
    assert output(probe).split("\n") == ["[]", "97", "b'x' -1"]
    assert output("import asyncio\nprint(asyncio.run(asyncio.sleep(0, 3)))") == "3"


def test_no_network():
    # Below the filter the network namespace has no interface that is up.
    if sandbox.isolation() == "namespaces":
        assert "--net" in sandbox._command("namespaces", 1, 64, 3)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    probe = (
        f"import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 2)\nexcept OSError as e: print(e.errno)"
    )
    assert output(probe) == "97"
    server.close()


def test_memory_that_no_limit_counts_is_denied():
    probe = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
calls = {"shm": lambda: libc.shmget(0, 4096, 0o1600), "sem": lambda: libc.semget(0, 1, 0o1600),
         "msg": lambda: libc.msgget(0, 0o1600), "memfd": lambda: libc.memfd_create(b"m", 0),
         "secret": lambda: libc.syscall(447, 0), "key": lambda: libc.syscall({key}, b"user", b"a", b"b", 1, -3),
         "mq": lambda: libc.mq_open(b"/q", os.O_CREAT | os.O_RDWR, 0o600, None),
         "ring": lambda: libc.syscall(425, 1, 0),
         "xattr": lambda: libc.setxattr(b"/tmp", b"user.a", b"b", 1, 0), "watch": lambda: libc.inotify_init1(0)}
for name, call in calls.items():
    ctypes.set_errno(0)
    print(name, call(), ctypes.get_errno())
"""
    key = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    said = [line.split() for line in output(probe.replace("{key}", str(key))).splitlines()]
    assert len(said) == 10
    assert [line for line in said if line[1:] != ["-1", "1"]] == []


def test_files_are_counted():
    probe = """
made = 0
try:
    while made < 20000:
        open(f"f{made}", "w").close()
        made += 1
except OSError as error:
    print(error.errno)
print(made)
"""
    said = output(probe).split()
    if sandbox.isolation() == "namespaces":  # bubblewrap has no option for it
        assert said[0] == "28" and 1000 < int(said[1]) <= sandbox.SCRATCH_FILES


def test_a_killed_parent_takes_the_box_with_it():
    name = f"orphan{os.getpid() % 10**6}"
    program = f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}')\ntime.sleep(60)"
    setting = f"from ladder.verifiers import sandbox\nsandbox.PATH = {sandbox.PATH!r}\n"
    script = f"{setting}sandbox.run_python({program!r}, seconds=15)"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(sandbox.__file__).parents[2])

    def running():
        return name in {read(path) for path in Path("/proc").glob("[0-9]*/comm")}

    until = time.monotonic() + 60
    while not running() and parent.poll() is None and time.monotonic() < until:
        os.sched_yield()
    assert running()
    parent.kill()
    parent.wait()
    until = time.monotonic() + 5  # of the 60 that it sleeps
    while running() and time.monotonic() < until:
        os.sched_yield()
    assert not running()


def test_a_box_whose_parent_is_gone_before_it_starts_runs_nothing():
    # The parent-death signal does not reveal it: the verdict's pipe has no reader.
    verdict, end = os.pipe()
    os.close(verdict)
    sent = message("nonce", "program", "print('ran')", "")
    with tempfile.TemporaryFile() as said:
        code = sandbox._run(sandbox._command(sandbox.isolation(), 5, 512, end), sent, said.fileno(), end, 30)
        said.seek(0)
        assert code != 0 and b"BrokenPipeError" in (text := said.read()) and b"ran" not in text
    os.close(end)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_by_an_interpreter_of_its_own(machine):
    code = [struct.unpack("=HBBI", filters(machine)[at : at + 8]) for at in range(0, len(filters(machine)), 8)]

    def action(number, argument=0, arch={"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]):  # noqa: B006
        data, value, place = {0: number, 4: arch, 16: argument}, 0, 0
        while True:
            kind, yes, no, operand = code[place]
            place += 1
            if kind == 0x06:
                return operand
            if kind == 0x20:
                value = data[operand]
            else:
                truth = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[kind]
                place += yes if truth else no

    allow, denied, kill = 0x7FFF0000, 0x50001, 0x80000000
    column = ["x86_64", "aarch64"].index(machine)
    read, write, mmap, execve = [(0, 63), (1, 64), (9, 222), (59, 221)]
    assert [action(call[column]) for call in (read, write, mmap, execve)] == [allow] * 4
    assert {action(call[column]) for call in DENIED.values() if call[column] is not None} == {denied}
    socket_, pair, clone = [(41, 198), (53, 199), (56, 220)]
    assert {action(socket_[column], family) for family in range(46)} == {0x50061}
    assert [action(pair[column], family) for family in (1, 2, 16)] == [allow, 0x50061, 0x50061]
    assert [action(clone[column], flags) for flags in (17, 0x3D0F00, 0x10000011, 0x20000)] == [allow] * 2 + [denied] * 2
    assert (action(435), action(0x40000001), action(0, arch=0x40000003)) == (0x50026, 0x50026, kill)
    assert filters("riscv64") is None


def test_no_memory_is_shared_with_the_machine():
    # System V segments belong to the IPC namespace: one created here under a key is not found there.
    libc = ctypes.CDLL(None, use_errno=True)
    key, create, remove = 0x1ADDE000 + os.getpid() % 4096, 0o1000, 0
    segment = libc.shmget(key, 4096, create | 0o666)
    assert segment >= 0
    try:
        assert output(f"import ctypes\nprint(ctypes.CDLL(None).shmget({key}, 4096, 0o666))") == "-1"
    finally:
        libc.shmctl(segment, remove, None)


def test_the_same_program_prints_the_same():
    program = "print(list({'a', 'b', 'c', 'd', 'e', 'f'}), hash('x'))"
    assert output(program) == output(program)


def test_a_program_has_the_standard_library_alone():
    assert output("import sys\nprint([p for p in sys.path if 'site-packages' in p], sys.argv)") == "[] ['program.py']"


def test_a_program_knows_its_name():
    program = "if __name__ == '__main__':\n    print('a script')"
    assert run_python(program).output == "a script\n"
    assert run_python(program, name="program").output == ""
    pickled = "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)"
    assert output(pickled, name="program") == output(pickled) == "True"


def test_no_secrets_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    known = {"LC_CTYPE", "PATH", "PWD", "PYTHONHASHSEED"}
    assert set(output("import os; print(*sorted(os.environ))").split()) <= known


def test_nothing_of_the_machine_is_read(tmp_path):
    (tmp_path / "secret").write_text("secret")
    probe = """
import os
for path in ({secret!r}, "/etc/passwd", "/proc/1/environ", "/proc/self/mounts", "/sys/kernel", "/var/tmp", "/home"):
    try:
        os.stat(path)
        print("there:", path)
    except OSError:
        pass
"""
    assert output(probe.format(secret=str(tmp_path / "secret"))) == ""


def test_only_the_scratch_directory_is_written():
    probe = """
import os
for folder in ("/", "/usr", "/usr/bin", "/lib", "/dev", os.path.dirname(os.__file__), os.getcwd()):
    try:
        with open(f"{folder}/written", "w") as file:
            file.write("x")
        print(folder)
    except OSError:
        pass
"""
    assert output(probe) == "/tmp"
    assert output("import os; print(os.listdir('/tmp'))") == "[]"


def test_no_privilege_is_had_or_gained():
    # mount(2) of / with write access; unshare(2) of a user namespace, where it would be root; mknod; chroot; setuid
    probe = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT, MS_BIND, CLONE_NEWUSER, CLONE_NEWNS = 32, 4096, 0x10000000, 0x20000
print(os.getuid() == 0, end=" ")
print(libc.mount(b"none", b"/", b"none", MS_REMOUNT, None), end=" ")
print(libc.mount(None, b"/usr", None, MS_REMOUNT | MS_BIND, None), end=" ")
print(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/", 0), ctypes.get_errno(), end=" ")
print(libc.unshare(CLONE_NEWUSER), libc.unshare(CLONE_NEWNS), end=" ")
for attempt in (lambda: os.chroot("/tmp"), lambda: os.setuid(0), lambda: os.mknod("/tmp/d", 0o60644, os.makedev(8, 0))):
    try:
        attempt()
        print("done", end=" ")
    except OSError:
        print(-1, end=" ")
"""
    assert output(probe) == "False -1 -1 -1 -1 1 -1 -1 -1 -1 -1"


def test_the_parent_gets_no_signal():
    # Signal 0 tests whether a signal would be delivered. Only the sandbox's own processes can be reached.
    probe = """
import os
for process in range(1, {last}):
    try:
        os.kill(process, 0)
        print(process)
    except OSError:
        pass
"""
    last = max(os.getpid(), os.getppid(), sandbox.PROCESSES) + 1
    reached = {int(word) for word in output(probe.format(last=last), seconds=20).split()}
    assert len(reached) <= 4 and max(reached) < 100


def test_without_a_box_nothing_runs_unless_allowed(monkeypatch):
    for kind in ("bubblewrap", "namespaces"):
        monkeypatch.setitem(sandbox.TOOLS, kind, ("no-such-tool",))
    monkeypatch.delenv("LADDER_UNSANDBOXED", raising=False)
    try:
        sandbox.isolation.cache_clear()
        with pytest.raises(UserError, match=r"sandbox: not available .* Install bubblewrap"):
            run_python("print(1)")
        monkeypatch.setenv("LADDER_UNSANDBOXED", "1")
        with pytest.raises(UserError, match="LADDER_UNSANDBOXED=yes"):
            run_python("print(1)")
        monkeypatch.setenv("LADDER_UNSANDBOXED", "yes")
        assert sandbox.isolation() == "none"
        assert run_python("print(1)").ok
        assert run_python("import time; time.sleep(20)", seconds=0.5).kind == "timeout"
    finally:
        sandbox.isolation.cache_clear()
