"""Files of a data set: a folder laid out as on the hub, and the hub's own client against a server of the tests'."""

import json
import os
import subprocess
import sys

import pytest

from hub import COMMIT, serving
from ladder.datafiles import data_files
from ladder.run import Refused

ROW = b'{"prompt": "a", "completion": "b"}\n'
CARD = b"""---
configs:
- config_name: default
  data_files:
  - {split: train_sft, path: "data/train_sft-*"}
  - {split: test_sft, path: "data/test_sft-*"}
- config_name: extra
  data_files: more/rows.jsonl
---
"""
FILES = {
    "README.md": CARD,
    "data/train_sft-00000-of-00002.jsonl": ROW,
    "data/train_sft-00001-of-00002.jsonl": ROW * 2,
    "data/test_sft-00000-of-00001.jsonl": ROW * 3,
    "more/rows.jsonl": ROW * 4,
}


@pytest.fixture
def here(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "here/set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "here"


def listed(here, source, config=None, split=None, sha256=None):
    return list(data_files(source, sha256, config, split, here, here.parent / "scratch"))


def test_a_folder_laid_out_as_on_the_hub(here):
    names = ["data/train_sft-00000-of-00002.jsonl", "data/train_sft-00001-of-00002.jsonl"]
    assert listed(here, "set", split="train_sft") == [(f"set/{name}", here / "set" / name) for name in names]
    assert listed(here, "set", config="extra") == [("set/more/rows.jsonl", here / "set/more/rows.jsonl")]


def test_one_file(here):
    assert listed(here, "set/more/rows.jsonl") == [("set/more/rows.jsonl", here / "set/more/rows.jsonl")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "set"}, "source set: no split None; its splits are test_sft, train_sft"),
        ({"source": "set", "split": "train"}, "source set: no split 'train'; its splits are test_sft, train_sft"),
        ({"source": "set", "config": "no"}, "cannot list its files: BuilderConfig 'no' not found"),
        ({"source": "set/more/rows.jsonl", "split": "train"}, "one file has no config and no split"),
        ({"source": "set", "sha256": "0" * 64}, "a repository has no sha256"),
        ({"source": "other"}, "source other: no such file or directory under"),
        ({"source": "../here/set"}, "expected a path under"),
        ({"source": "/here/set"}, "expected a path under"),
        ({"source": "hub:org/name@main"}, "a commit of 40 hex digits"),
    ],
)
def test_what_cannot_be_had_is_refused(here, arguments, said):
    with pytest.raises(Refused) as refusal:
        listed(here, **arguments)
    assert said in str(refusal.value)


def over_http(tmp_path, address, source, split, most):
    """(name, content) of the first files, read in a process that knows the server as its hub."""
    script = (
        "import json, sys; from itertools import islice; from pathlib import Path\n"
        "from ladder.datafiles import data_files\n"
        "files = data_files(sys.argv[1], None, None, sys.argv[2] or None, Path(), Path('scratch'))\n"
        "print(json.dumps([(name, path.read_text()) for name, path in islice(files, int(sys.argv[3]))]))"
    )
    hub = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script, source, split, str(most)],
        env=os.environ | hub,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_hub_repository_is_fetched_file_by_file_as_it_is_read(tmp_path):
    first = "data/train_sft-00000-of-00002.jsonl"
    with serving(FILES) as (address, fetched):
        assert over_http(tmp_path, address, f"hub:org/name@{COMMIT}", "train_sft", 1) == [[first, ROW.decode()]]
    assert fetched == ["README.md", first]
