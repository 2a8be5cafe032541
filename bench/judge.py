"""How fast an endpoint's judge is beside a sequential client, and that its second run asks nothing.

    python -m bench.judge [--calls 160] [--latency 1.0] [--concurrency 64]

A server on this machine waits `latency` seconds before each reply; it stands for a hosted judge.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai

from ladder.generation import Endpoint
from ladder.judging import Judging, load_judge

REPLY = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "[[7]]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


class Server(ThreadingHTTPServer):
    """Counts its requests."""

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
        """Nothing on stderr."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=160)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    requests = [[{"role": "user", "content": f"Grade answer {number}."}] for number in range(options.calls)]
    server = Server(options.latency)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(
        base_url=f"http://127.0.0.1:{server.server_port}/v1", model="judge", concurrency=options.concurrency
    )

    def sequential() -> None:
        with openai.OpenAI(base_url=endpoint.base_url, api_key="none") as client:
            for messages in requests:
                client.chat.completions.create(model="judge", messages=messages, max_tokens=1024)  # type: ignore[arg-type]

    def judged() -> None:
        grades = load_judge(Judging(endpoint=endpoint), Path(), Path()).rate(requests, progress="")
        assert grades == [7.0] * options.calls

    print(f"{options.calls} calls at {options.latency:g} s latency, {options.concurrency} at once")
    print("| client | seconds | requests | times as fast |\n|---|---:|---:|---:|")
    first = 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LADDER_WORK"] = folder
        for name, run in (("sequential", sequential), ("judge", judged), ("judge, again", judged)):
            before, started = server.requests, time.perf_counter()
            run()
            seconds = time.perf_counter() - started
            first = first or seconds
            asked = server.requests - before
            print(f"| {name} | {seconds:.2f} | {asked} | {first / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
