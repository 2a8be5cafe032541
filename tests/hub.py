"""A local hub with one data set repository, served over HTTP to the real client and `datasets`."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = "/api/datasets/org/name"
FILE = f"/datasets/org/name/resolve/{COMMIT}/"


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """(address, files downloaded so far) of a hub with `org/name` at COMMIT."""
    fetched: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            url = urlparse(self.path)
            path = unquote(url.path)
            if path.startswith(FILE) and (name := path.removeprefix(FILE)) in files:
                if self.command == "GET":
                    fetched.append(name)
                etag = hashlib.sha1(files[name]).hexdigest()
                self.say(files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            elif path.startswith(f"{API}/tree/{COMMIT}"):
                folder = path.removeprefix(f"{API}/tree/{COMMIT}").strip("/")
                self.say(json.dumps(tree(files, folder, "recursive=true" in url.query)).encode())
            elif path.startswith(f"{API}/revision/{COMMIT}"):
                siblings = [{"rfilename": name} for name in files]
                self.say(json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
            else:
                self.say(b"", {"X-Error-Code": "EntryNotFound"}, status=404)

        def say(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()


def tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """Return the entries of a folder of the repository, as the hub's API lists them."""
    entries: dict[str, dict[str, object]] = {}
    for name, content in files.items():
        parts = name.split("/")
        above = folder.split("/") if folder else []
        if parts[: len(above)] != above:
            continue
        for depth in range(len(above) + 1, len(parts) + 1):
            path = "/".join(parts[:depth])
            size = {"type": "file", "size": len(content)} if path == name else {"type": "directory"}
            if recursive or depth == len(above) + 1:
                entries[path] = {**size, "path": path, "oid": "0" * 40}
    return list(entries.values())
