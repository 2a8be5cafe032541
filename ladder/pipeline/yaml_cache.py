"""Cache of parsed YAML texts, by content: in memory, and for large texts in .dvc/tmp/ladder/yaml.

ruamel.yaml parses in pure Python: dvc.lock takes two seconds, params.yaml a fifth of one. A text is the key, so a
changed file is never mistaken for the one before.
"""

import contextlib
import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(".dvc/tmp/ladder/yaml")
LARGE = 1 << 14
"""Minimum characters of a text that is kept on disk."""
KEPT = 8
"""Maximum number of texts on disk."""

ANCHOR = re.compile(r"(?:^|[\s\[{,:-])&\S", re.MULTILINE)
"""Possible anchor. Texts with one stay in memory, because JSON would write out every alias."""

_parsed: dict[str, Any] = {}


def cached(text: str, load: Callable[[str], Any]) -> Any:
    """Return `load(text)`, from the cache where it has the text. The caller owns the returned object.

    load: a loader of YAML 1.2 into plain data. Errors: those of `load`, which are not cached.
    """
    if text not in _parsed:
        large = len(text) >= LARGE and not ANCHOR.search(text)
        _parsed[text] = _on_disk(text, load) if large else load(text)
    return copy.deepcopy(_parsed[text])


def _on_disk(text: str, load: Callable[[str], Any]) -> Any:
    path = FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    content = load(text)
    if FOLDER.parents[1].is_dir():
        with contextlib.suppress(OSError, TypeError, ValueError):
            _write(path, content)
    return content


def _write(path: Path, content: Any) -> None:
    """Write the content, unless JSON would change it, such as a date or a number as a key."""
    from ladder.data.atomic_write import whole

    written = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if repr(json.loads(written)) != repr(content):
        return
    with whole(path) as file:
        file.write(written.encode())
    others = sorted(FOLDER.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    for other in others[:-KEPT]:
        other.unlink(missing_ok=True)
