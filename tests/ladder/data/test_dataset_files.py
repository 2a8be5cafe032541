"""Files of a data set: a folder in the hub's layout, and the hub's own client against a local server."""

import gzip
import json
import os
import subprocess
import sys

import pytest

from hub import COMMIT, serving
from ladder.data.dataset_files import data_files
from ladder.pipeline.stage import UserError

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


def test_a_pattern(here):
    names = [f"set/data/{name}.jsonl" for name in ("train_sft-00000-of-00002", "train_sft-00001-of-00002")]
    assert listed(here, "set/data/train*") == [(name, here / name) for name in names]
    assert [name for name, _ in listed(here, "set/**/*.jsonl")] == sorted(
        f"set/{name}" for name in FILES if "/" in name
    )
    with pytest.raises(UserError, match=r"source set/\*\*\.jsonl: Invalid pattern: '\*\*' can only be an entire"):
        listed(here, "set/**.jsonl")


def test_a_pattern_takes_no_hidden_file(tmp_path):
    here = folder(tmp_path, "a.jsonl", "._a.jsonl", ".gitignore", ".old/b.jsonl")
    assert [name for name, _ in listed(here, "set/**/*")] == ["set/a.jsonl"]


def test_what_dvc_leaves_beside_the_files_that_it_keeps_is_no_data(tmp_path):
    here = folder(tmp_path, "a.jsonl", "a.jsonl.dvc", "b.jsonl", "b.jsonl.dvc", ".gitignore")
    assert [name for name, _ in listed(here, "set")] == ["set/a.jsonl", "set/b.jsonl"]
    assert [name for name, _ in listed(here, "set/a*")] == ["set/a.jsonl"]


def folder(tmp_path, *names):
    for name in names:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(ROW) if name.endswith(".gz") else ROW)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("a.jsonl", "b.jsonl.gz", "c.csv", "d/e.parquet"),
            "source set: the split of its files is ambiguous: by their names and types train would be "
            "a.jsonl, b.jsonl.gz, and c.csv, d/e.parquet would be left out. Name a file or a pattern (set/*.csv), or "
            "state the splits in set/README.md under `configs:`, as on the hub.",
        ),
        (("b.jsonl", "test.jsonl", "x/a.jsonl"), "test would be test.jsonl, and b.jsonl, x/a.jsonl would be left out"),
    ],
)
@pytest.mark.parametrize("split", [None, "train"])
def test_files_of_a_folder_that_only_names_and_kinds_would_leave_out_are_reported(tmp_path, names, said, split):
    with pytest.raises(UserError) as refusal:
        listed(folder(tmp_path, *names), "set", split=split)
    assert said in str(refusal.value)


def test_what_a_folders_card_leaves_out_is_reported_and_no_fault(here):
    folder(here, "data/notes.csv", "data/dataset_info.json", ".hidden/rows.jsonl", "more/rows.txt")
    for config, split in ((None, "train_sft"), ("extra", None)):
        assert data_files("set", None, config, split, here, here).unread == ["data/notes.csv"]


def test_what_another_config_has_in_its_folder_is_not_left_out(tmp_path):
    here = folder(tmp_path, "one/a.jsonl", "two/a.jsonl", "three/a.jsonl")
    card = "---\nconfigs:\n- {config_name: one, data_dir: one}\n- {config_name: two, data_dir: two}\n---\n"
    (here / "set/README.md").write_text(card)
    files = data_files("set", None, "one", None, here, here)
    assert (files.names, files.unread) == (["set/one/a.jsonl"], ["three/a.jsonl"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "set"}, "source set: no split None; expected one of test_sft, train_sft"),
        ({"source": "set", "split": "train"}, "source set: no split 'train'; expected one of test_sft, train_sft"),
        ({"source": "set", "config": "no"}, "cannot list its files: BuilderConfig 'no' not found"),
        ({"source": "set/more/rows.jsonl", "split": "train"}, "a single file has no config and no split"),
        ({"source": "set", "sha256": "0" * 64}, "sha256 is not supported for a repository"),
        ({"source": "set/*.csv"}, "source set/*.csv: no file under"),
        ({"source": "set/**/*.jsonl", "split": "train"}, "a single file has no config and no split"),
        ({"source": "other"}, "source other: no such file or directory under"),
        ({"source": "../here/set"}, "expected a path under"),
        ({"source": "/here/set"}, "expected a path under"),
        ({"source": "hub:org/name@main"}, "a commit of 40 hex digits"),
    ],
)
def test_what_cannot_be_had_is_refused(here, arguments, said):
    with pytest.raises(UserError) as refusal:
        listed(here, **arguments)
    assert said in str(refusal.value)


def over_http(tmp_path, address, source, split, most):
    """Return [files in no split, (name, content) of the first files] from a process that uses the server as its hub."""
    script = (
        "import json, sys; from itertools import islice; from pathlib import Path\n"
        "from ladder.data.dataset_files import data_files\n"
        "files = data_files(sys.argv[1], None, None, sys.argv[2] or None, Path(), Path('scratch'))\n"
        "first = [(name, path.read_text()) for name, path in islice(files, int(sys.argv[3]))]\n"
        "print(json.dumps([files.unread, *first]))"
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
    with serving({**FILES, "old/rows.csv": b"a\n"}) as (address, fetched):
        found = over_http(tmp_path, address, f"hub:org/name@{COMMIT}", "train_sft", 1)
    assert found == [["old/rows.csv"], [first, ROW.decode()]]
    assert fetched == ["README.md", first]
