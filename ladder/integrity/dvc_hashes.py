"""DVC's hashes of outputs and cache objects: MD5 of a file, or of a directory's file list (`<md5>.dir`)."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json

OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")
"""Path of an object relative to the cache directory."""


def md5(path: Path) -> str:
    """MD5 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def all_md5(paths: Iterable[Path]) -> dict[Path, str]:
    """MD5 of each file, in parallel threads (hashlib releases the GIL)."""
    listed = list(paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(md5, listed), strict=True))


def output_md5(path: Path) -> str:
    """Hash that DVC records for an output: the MD5 of a file, or `<md5>.dir` of a directory."""
    if not path.is_dir():
        return md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return listing_md5({file.relative_to(path).as_posix(): found for file, found in all_md5(files).items()})


def listing_md5(files: dict[str, str]) -> str:
    """Hash of a directory with these files: {relative path: MD5}."""
    listed = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def object_path(cache: Path, found: str) -> Path:
    """Path of a hash's object in the cache."""
    return cache / found[:2] / found[2:]


def objects(cache: Path) -> Iterator[Path]:
    """Paths of all objects in the cache. Unfinished objects have other names and are skipped."""
    for folder in sorted(cache.glob("[0-9a-f][0-9a-f]")):
        yield from (path for path in sorted(folder.iterdir()) if OBJECT.fullmatch(f"{folder.name}/{path.name}"))


def recorded_md5(path: Path) -> str:
    """Hash that an object's path encodes."""
    return path.parent.name + path.name


def folder_files(cache: Path, found: str) -> dict[str, str]:
    """Map relative paths to hashes for a `.dir` object; empty if it is missing or invalid."""
    try:
        listed: list[dict[str, Any]] = parse_json(object_path(cache, found).read_text(encoding="utf-8"))
        return {file["relpath"]: file["md5"] for file in listed}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def is_cached(cache: Path, found: str) -> bool:
    """Whether the cache contains the object of an output and, for a directory, the objects of its files."""
    if not object_path(cache, found).is_file():
        return False
    files = folder_files(cache, found) if found.endswith(".dir") else {}
    return all(object_path(cache, file).is_file() for file in files.values())
