"""A real server on a free port of this machine that answers chat completions, and fails as a test specifies."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Said:
    """One answer of the server."""

    text: str | None = "[[5]]"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Body to send instead of a chat completion."""
    finish: str = "stop"
    cut: int | None = None
    """Number of body bytes to send before the connection closes."""
    reset: bool = False
    """Whether to reset the connection before the first byte of the answer."""
    usage: bool = True
    """Whether it reports the number of tokens."""
    hang: bool = False
    """Whether to send nothing until the server closes."""
    latency: float = 0.0
    """Seconds to wait before answering."""


Answering = Callable[[dict[str, Any], int], Said]
"""Return the answer to a request (its JSON body) that arrives for the n-th time (from 0)."""


def says(*replies: Said) -> Answering:
    """Answer each request with the next of these, and repeat the last one."""
    return lambda _, before: replies[min(before, len(replies) - 1)]


class Server(ThreadingHTTPServer):
    """Server that records requests: `asked` (bodies in order), `keys` (Authorization), `most` at once, `answered`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answered: list[str] = []
        self.under_way = self.most = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            before = sum(one["messages"] == asked["messages"] for one in server.asked)
            server.asked.append(asked)
            server.keys.append(self.headers["Authorization"])
            server.under_way += 1
            server.most = max(server.most, server.under_way)
        try:
            said = server.answering(asked, before)
            server.closing.wait(None if said.hang else said.latency)
        finally:
            with server.lock:
                server.under_way -= 1
        if said.reset:
            # With a linger time of 0 seconds, closing sends a TCP reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
            self.close_connection = True
        elif not said.hang:
            with server.lock:  # before the answer is sent: a client may read the counts at once
                server.answered.append(asked["messages"][-1]["content"])
            self._send(said)

    def _send(self, said: Said) -> None:
        body = _completion(said) if said.body is None else said.body
        self.send_response(said.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **said.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: said.cut])

    def log_message(self, *_: object) -> None:
        """Print nothing to stderr."""


def _completion(said: Said) -> bytes:
    if said.status != 200:
        return json.dumps({"error": {"message": said.text, "code": said.status}}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": said.text}, "finish_reason": said.finish}
    whole: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if said.usage:
        whole["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps(whole).encode()


@contextmanager
def serving(answering: Answering) -> Iterator[Server]:
    """Run a server until the block ends."""
    server = Server(answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
