"""A push lists what it would upload; with --yes, the hub's own client sends these bytes to a local hub."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from huggingface_hub import constants

from ladder.__main__ import main
from ladder.pipeline.stage import UserError
from ladder.ship.export import export
from ladder.ship.push import planned, push


@contextmanager
def hub() -> Iterator[tuple[str, dict[str, Any]]]:
    """(address, what it received) of a hub that takes one commit: `repository`, `token`, and `files` by name."""
    received: dict[str, Any] = {"files": {}}

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.say({"id": "org/words", "sha": "0" * 40, "siblings": []})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received["token"] = self.headers["Authorization"]
            match self.path:
                case "/api/repos/create":
                    received["repository"] = json.loads(body)
                    self.say({"url": f"{address}/org/words"})
                case "/api/models/org/words/preupload/main":
                    names = [file["path"] for file in json.loads(body)["files"]]
                    self.say({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
                case "/api/validate-yaml":
                    self.say({"errors": [], "warnings": []})
                case "/api/models/org/words/commit/main":
                    for line in map(json.loads, body.splitlines()):
                        if line["key"] == "file":
                            received["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    self.say({"success": True, "commitOid": "1" * 40, "commitUrl": f"{address}/org/words/commit/1"})

        def say(self, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield address, received
        server.shutdown()


def test_without_yes_every_file_and_the_card_are_printed_and_nothing_is_left(repository, work, capsys):
    main(["push", "sft/words", "org/words", "--as", "adapter"])
    out = capsys.readouterr().out
    for path in (repository / "models/sft/words").iterdir():
        if path.name not in ("rung.json", "adapter_config.json"):
            assert f"{path.stat().st_size:,} bytes  {path.name}\n" in out
    assert out.startswith("---\n") and "# sft/words" in out
    assert out.endswith("nothing was uploaded; --yes uploads to a private repository\n")
    assert not any((work / "push").parent.glob("push/*"))


def test_yes_uploads_exactly_the_files_of_the_export(repository, tmp_path, monkeypatch):
    export("sft/words", tmp_path / "out", "adapter")
    (tmp_path / "out/.cache").mkdir()
    with hub() as (address, received):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
        upload, url = push("sft/words", "org/words", "adapter", exported=tmp_path / "out", send_it=True)
    assert url == f"{address}/org/words/commit/1" and received["token"] == "Bearer hf_of_this_test"
    assert received["repository"]["visibility"] == "private"
    assert received["files"] == {name: (tmp_path / "out" / name).read_bytes() for name in upload.files}
    assert "adapter_model.safetensors" in received["files"] and "README.md" in received["files"]


def test_a_token_comes_from_the_environment_alone(repository, tmp_path, monkeypatch):
    export("base", tmp_path / "out")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "token").write_text("hf_of_a_file")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UserError, match="environment variable HF_TOKEN: unset or empty"):
        push("base", "org/words", "merged", exported=tmp_path / "out", send_it=True)


def test_an_export_of_another_rung_and_a_wrong_name_are_refused(repository, tmp_path):
    made = export("base", tmp_path / "out")
    with pytest.raises(UserError, match="is an export of base"):
        planned(tmp_path / "out", "org/words", "f" * 64, private=True)
    with pytest.raises(UserError, match="export.json: no such file"):
        planned(tmp_path, "org/words", made.rung.identity, private=True)
    for name in ("words", "org/wo rds", "a/b/c"):
        with pytest.raises(UserError, match="REPO_ID: "):
            push("base", name, "merged")
