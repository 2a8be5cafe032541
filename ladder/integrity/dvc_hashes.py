"""Outputs and cache objects by DVC's own hash: MD5 of a file, or of the list of a folder's files (`<md5>.dir`)."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")
"""The path of an object within the cache's folder."""


def md5(path: Path) -> str:
    """MD5 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def all_md5(paths: Iterable[Path]) -> dict[Path, str]:
    """MD5 of each file, several at a time: hashlib releases the interpreter's lock."""
    listed = list(paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(md5, listed), strict=True))


def output_md5(path: Path) -> str:
    """What DVC records of an output: a file's MD5, or `<md5>.dir` of a folder."""
    if not path.is_dir():
        return md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = [{"md5": found, "relpath": file.relative_to(path).as_posix()} for file, found in all_md5(files).items()]
    listed.sort(key=lambda file: file["relpath"].split("/"))
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def object_path(cache: Path, found: str) -> Path:
    """Where the cache keeps the object of a hash."""
    return cache / found[:2] / found[2:]


def objects(cache: Path) -> Iterator[Path]:
    """All objects of the cache's folder; what DVC has not finished writing has another name."""
    for folder in sorted(cache.glob("[0-9a-f][0-9a-f]")):
        yield from (path for path in sorted(folder.iterdir()) if OBJECT.fullmatch(f"{folder.name}/{path.name}"))


def recorded_md5(path: Path) -> str:
    """The hash that an object's path records."""
    return path.parent.name + path.name


def folder_files(cache: Path, found: str) -> dict[str, str]:
    """Hash by relative path of the files of a `.dir` object; empty where it is missing or is no list of files."""
    try:
        listed: list[dict[str, Any]] = json.loads(object_path(cache, found).read_bytes())
        return {file["relpath"]: file["md5"] for file in listed}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def is_cached(cache: Path, found: str) -> bool:
    """Whether the cache holds an output's object and, of a folder, those of its files."""
    if not object_path(cache, found).is_file():
        return False
    files = folder_files(cache, found) if found.endswith(".dir") else {}
    return all(object_path(cache, file).is_file() for file in files.values())
