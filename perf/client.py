"""Benchmark of the endpoint client against a sequential client; also checks that a second run sends no request.

    python -m perf.client [--calls 160] [--latency 1.0] [--concurrency 64]

A local server waits `latency` seconds before each reply, in place of a hosted model. Then the reply store alone: the
time to write, find and read replies, and its memory per reply.
"""

import argparse
import json
import os
import tempfile
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai

from ladder.inference.client import Client, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint
from ladder.inference.request_cache import Replies, content_key

REPLY = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "[[7]]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


class Server(ThreadingHTTPServer):
    """HTTP server that counts its requests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, latency: float) -> None:
        self.latency, self.requests, self.lock = latency, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests += 1
        time.sleep(self.server.latency)
        body = json.dumps(REPLY).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing to stderr."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=160)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=Endpoint.model_fields["concurrency"].default)
    parser.add_argument("--replies", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LADDER_WORK"] = folder
        clients(options)
        store(Path(folder) / "replies.jsonl", options.replies)


def clients(options: argparse.Namespace) -> None:
    """Time the sequential client, the ladder's client, and the ladder's client again."""
    requests = [Request([{"role": "user", "content": f"Say {number}."}]) for number in range(options.calls)]
    server = Server(options.latency)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(
        base_url=f"http://127.0.0.1:{server.server_port}/v1", model="big", concurrency=options.concurrency
    )

    def sequential() -> None:
        with openai.OpenAI(base_url=endpoint.base_url, api_key="none") as client:
            for request in requests:
                client.chat.completions.create(model="big", messages=request.messages)  # type: ignore[arg-type]

    def concurrent() -> None:
        replies = Client(endpoint, UNBOUNDED).ask(requests, progress="")
        assert all(reply and reply.text == "[[7]]" for reply in replies)

    print(f"{options.calls} calls at {options.latency:g} s latency, {options.concurrency} in parallel")
    print("| client | seconds | requests | times as fast |\n|---|---:|---:|---:|")
    first = 0.0
    for name, run in (("sequential", sequential), ("ladder", concurrent), ("ladder, again", concurrent)):
        before, started = server.requests, time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        first = first or seconds
        print(f"| {name} | {seconds:.2f} | {server.requests - before} | {first / seconds:.1f} |", flush=True)


def store(path: Path, count: int) -> None:
    """Time the reply store, and measure its memory per reply."""
    keys = [content_key(number=number) for number in range(count)]
    reply = {"text": "word " * 200, "prompt_tokens": 7, "tokens": 3, "finished": True, "base_url": "http://host/v1"}
    writing, started = Replies(path), time.perf_counter()
    for key in keys:
        writing.add(key, reply)
    kept = time.perf_counter() - started
    started = time.perf_counter()
    reading = Replies(path)
    found = time.perf_counter() - started
    started = time.perf_counter()
    for key in keys:
        assert reading[key]["tokens"] == 3
    read = time.perf_counter() - started
    tracemalloc.start()
    again = Replies(path)
    held = tracemalloc.get_traced_memory()[0] / len(again)
    tracemalloc.stop()
    print(f"\nstore of {count} replies, {path.stat().st_size / 1e6:.0f} MB, {held:.0f} bytes of memory per reply")
    print("| | replies per second |\n|---|---:|")
    for name, seconds in (("kept", kept), ("found at the start", found), ("read", read)):
        print(f"| {name} | {count / seconds:.0f} |")


if __name__ == "__main__":
    main()
