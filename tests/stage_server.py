"""Stages and DVC as forks of one process that has imported the large libraries.

A pico ladder runs a hundred stages, and each would import torch, transformers and trl for ten seconds to train for one.
A folder in front of PATH has a `python` that asks the server to run `-m stages.NAME` and `-m ladder`, and a `dvc`. The
server imports only libraries: a fork imports the modules of the ladder from its own working directory, as a new process
does. It has the arguments, environment, working directory and streams of the caller, and its exit code is the caller's.

    python tests/stage_server.py SOCKET
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "torch._dynamo", "torch._inductor.compile_fx", "torch.distributed.tensor", "numpy", "scipy.special",
    "scipy.stats", "networkx", "orjson", "pydantic", "ruamel.yaml", "typer", "rich.live", "rich.table",
    "jinja2.sandbox", "datasets", "pyarrow.parquet", "pandas", "safetensors.torch", "accelerate", "bitsandbytes",
    "sklearn.metrics", "transformers", "transformers.trainer", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama", "peft", "trl",
    "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "trl.trainer.kto_trainer", "trl.trainer.grpo_trainer",
    "trl.trainer.rloo_trainer", "trl.trainer.reward_trainer", "dvc.cli", "dvc.repo", "dvc.commands.repro",
    "dvc.commands.status",
)  # fmt: skip
"""What the stages and DVC import. A module that is absent here is imported by every fork, and costs only time."""
SHIM = """#!/bin/sh
case "{name} $1 $2" in
"dvc "*|"python -m ladder"|"python -m stages."*) exec {python} -I -S {server} --ask {socket} {name} "$@" ;;
*) exec {real} "$@" ;;
esac
"""


@contextmanager
def stage_server() -> Iterator[Path]:
    """Run a server; yield a folder with its `python` and `dvc`, to be the first of PATH. Libraries use one thread."""
    with tempfile.TemporaryDirectory(prefix="stages-") as folder:
        address, programs = Path(folder, "socket"), Path(folder, "bin")
        programs.mkdir()
        for name in ("python", "dvc"):
            real = Path(sys.executable).with_name(name)
            text = SHIM.format(name=name, python=sys.executable, server=Path(__file__), socket=address, real=real)
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, __file__, str(address)]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            try:
                yield programs
            finally:
                server.terminate()


def ask(address: str, words: Sequence[str]) -> int:
    """Let the server run a program with this process's streams, environment and folder; return its exit code."""
    request = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        return int.from_bytes(connection.recv(1) or b"\x01", "big")


class Server:
    """Accept requests, fork for each, and send the exit codes, until the standard input is closed."""

    def __init__(self, address: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen()
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(sys.stdin, selectors.EVENT_READ)
        self.waiting.register(self.listener, selectors.EVENT_READ)

    def serve(self) -> dict[str, Any] | None:
        """Return the request in the fork that runs it, and None in the server at its end."""
        while True:
            for key, _ in self.waiting.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is self.listener:
                    if (request := self._start()) is not None:
                        return request
                else:
                    self._end(key)

    def _start(self) -> dict[str, Any] | None:
        connection, _ = self.listener.accept()
        size, streams, *_ = socket.recv_fds(connection, 8, 3)
        text = b""
        while len(text) < int.from_bytes(size, "big"):
            text += connection.recv(1 << 16)
        pid = os.fork()
        if not pid:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for each in (self.waiting, self.listener, connection):
                each.close()
        for stream in streams:
            os.close(stream)
        if not pid:
            request: dict[str, Any] = json.loads(text)
            return request
        self.waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
        return None

    def _end(self, key: selectors.SelectorKey) -> None:
        pid, connection = key.data
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.waiting.unregister(key.fileobj)
        os.close(key.fd)
        with connection:
            connection.sendall(bytes([code if code >= 0 else 128 - code]))  # as a shell reports a signal


def run(program: str, *words: str, folder: str, environment: dict[str, str]) -> None:
    """Run `dvc ...`, or `python -m MODULE ...`, in this process, and end it."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # read TMPDIR again
    signal.signal(signal.SIGINT, signal.default_int_handler)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = added if program == "dvc" else [folder, *added]
    code = 1
    try:
        code = _run(program, list(words))
    except BaseException:
        traceback.print_exc()
    # As the interpreter ends, without half a second for the release of all objects of the libraries.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(program: str, words: list[str]) -> int:
    """Return the exit code."""
    try:
        if program == "dvc":
            from dvc.cli import main

            sys.argv = [program, *words]
            return int(main(words))
        _, module, *arguments = words
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)


def main(address: str) -> None:
    """Import the libraries, say so on stdout, and serve."""
    for name in LIBRARIES:
        importlib.import_module(name)
    started = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()][1:]
    if others := [name for name in started if name != "jemalloc_bg_thd"]:  # pyarrow's survives forks
        raise SystemExit(f"threads after the imports, which forks would lack: {', '.join(others)}")
    gc.collect()
    gc.freeze()  # forks do not write to the pages of these objects
    server = Server(address)
    print("ready", flush=True)
    if request := server.serve():
        run(*request.pop("words"), **request)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    if sys.argv[1] == "--ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    main(sys.argv[1])
