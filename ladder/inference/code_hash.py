"""Hash of the code, and versions of the libraries, that determine an engine's answers.

An edit of other code leaves generated text valid.

The module is free of torch, so that a stage can decide whether to generate before it loads a model.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from ladder.inference.types import EngineName
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import imports_of

LADDER = Path(__file__).resolve().parents[1]
ROOTS = {"vllm": "inference/vllm_engine.py", "endpoint": "inference/client.py"}
LOCAL = "inference/local.py"
UNRELATED = ("pipeline", "integrity", "training")
"""Packages that decide whether and where a stage runs, and which keys of params.yaml are valid, but no answer."""


def versions(names: Iterable[str]) -> dict[str, str]:
    """Version of each library that is installed, without the build: "2.13.0+cpu" and "2.13.0+cu130" are 2.13.0."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:  # vLLM is optional, and only loading it needs it
            continue
    return found


def code_hash(engine: EngineName, others: Iterable[str] = (), ladder: Path = LADDER) -> str:
    """sha256 of the modules that generate with an engine, their imports, and `others`, by their path in `ladder`.

    Comments, docstrings, messages and log lines are left out (ladder/pipeline/code_text.py).
    """
    files = imports_of(ladder / ROOTS.get(engine, LOCAL), [ladder]) | {ladder / name for name in others}
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(ladder)
        if name.parts[0] not in UNRELATED and path.is_file():
            digest.update(f"{name}\0".encode() + essence(path))
    return digest.hexdigest()
