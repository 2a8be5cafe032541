"""The stage `answer` of dvc.yaml in a small repository of its own: what a fresh clone asks after `dvc pull`."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT
from endpoints import Said, Server, serving
from ladder.data.jsonl import Row, write_rows
from ladder.pipeline.stage import read_yaml

CODE = ("ladder", "stages", "benchmarks")
RUNG = {"method": "base", "kind": "complete", "head": "language_model", "parents": {}, "base": None, "settings": {},
        "tokenizer": "", "parameters": 1, "trainable_parameters": 0, "files": {}}  # fmt: skip


class Repository:
    """A clone with caches of its own; `server` counts what its rungs are asked."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        self.work = root.with_suffix(".work")

    def call(self, *command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "LADDER_WORK": str(self.work)}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro(self) -> tuple[set[str], int]:
        """The stages that ran, and the number of questions that were asked."""
        before = len(self.server.asked)
        ran = re.findall(r"Running stage '(.+?)':", self.call("dvc", "repro"))
        return set(ran), len(self.server.asked) - before

    def change(self, benchmarks: list[str], rungs: list[str], **settings: Row) -> None:
        endpoint = {"base_url": self.server.base_url, "model": "{rung}"}
        entries = {name: {"max_new_tokens": 5, "endpoint": endpoint, **settings.get(name, {})} for name in "abc"}
        params = {"report": {"benchmarks": benchmarks, "rungs": rungs}, "answer": entries}
        (self.root / "params.yaml").write_text(json.dumps(params))
        (self.root / "links.yaml").write_text(json.dumps({"rungs": {"report": rungs}}))

    def answers(self) -> dict[str, bytes]:
        folder = self.root / "data/answer"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def first(tmp_path: Path) -> Repository:
    root = tmp_path / "first"
    for rung in ("base", "sft/chat"):
        (root / "models" / rung).mkdir(parents=True)
        (root / f"models/{rung}/rung.json").write_text(json.dumps({**RUNG, "rung": rung, "chat_template": rung}))
    for name in "abc":
        write_rows(root / f"data/questions/{name}.jsonl", [{"key": n, "turns": [f"{name}{n}"]} for n in "123"])
    stanza = read_yaml(ROOT / "dvc.yaml")["stages"]["answer"]
    stanza["deps"].remove("code/answer.txt")
    with (root / "dvc.yaml").open("w") as file:
        YAML().dump({"vars": ["links.yaml"], "stages": {"answer": stanza}}, file)
    (root / ".gitignore").write_text("/data/answer\n" + "".join(f"/{name}\n" for name in CODE))
    for name in CODE:
        (root / name).symlink_to(ROOT / name)
    with serving(lambda asked, n: Said(f"{asked['model']} {asked['messages'][0]['content']}")) as server:
        yield Repository(root, server)


def test_a_fresh_clone_asks_only_new_cells_after_a_pull(first: Repository, tmp_path: Path) -> None:
    first.change(["a", "b"], ["base"])
    for command in ("git init -q", "dvc init -q", "dvc config cache.type hardlink,symlink"):
        first.call(*command.split())
    assert first.repro() == ({"answer@base"}, 2 * 3)
    for command in (f"dvc remote add -d remote {tmp_path / 'remote'}", "dvc push -q", "git add -A",
                    "git -c user.name=a -c user.email=a@b commit -qm first"):  # fmt: skip
        first.call(*command.split())
    first.call("git", "clone", "-q", str(first.root), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone", first.server)
    for name in CODE:
        (clone.root / name).symlink_to(ROOT / name)
    clone.call("dvc", "pull", "-q")
    assert clone.repro() == (set(), 0)
    clone.change(["a", "b", "c"], ["base"])
    assert clone.repro() == ({"answer@base"}, 3)
    clone.change(["c", "b"], ["base", "sft/chat"], b={"rows": 2})
    assert clone.repro() == ({"answer@base", "answer@sft/chat"}, 2 + 5)
    found = clone.answers()
    assert len(found) == 2 * 2 * 2
    for folder in (clone.work, clone.root / "data/answer"):
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)
    clone.call("dvc", "repro", "-f")
    assert clone.answers() == found
