"""What replies of endpoints cost: the replies that LADDER_WORK keeps, one file for each model."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.inference.request_cache import content_key
from ladder.pipeline.launch import cache


@dataclass(frozen=True)
class Bill:
    """Replies of one model behind an endpoint, of all stages and revisions that asked it on this machine.

    calls and tokens are None without a file of replies here, money also without prices. Tries that failed, and replies
    whose file was deleted, are not in it. damaged: lines that are no reply.
    """

    model: str
    calls: int | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    money: float | None = None
    """In the currency of the prices in params.yaml."""
    damaged: int = 0


def bills(contents: Iterable[Any]) -> list[Bill]:
    """Return the bill of each model whose endpoint is in these sections, at the last prices that are given."""
    found: dict[str, dict[str, float] | None] = {}
    for each in (one for content in contents for one in served(content)):
        found[str(each["model"])] = each.get("prices") or found.get(str(each["model"]))
    return [bill(model, prices) for model, prices in found.items()]


def served(content: Any) -> Iterator[dict[str, Any]]:
    """Iterate over the endpoints at any depth: sections with `base_url` and `model`."""
    if isinstance(content, dict):
        if "base_url" in content and "model" in content:
            yield content
        for each in content.values():
            yield from served(each)
    elif isinstance(content, list):
        for each in content:
            yield from served(each)


def replies_file(model: str) -> Path:
    """Return the file of an endpoint's replies, as ladder.inference.request_cache names it."""
    words = re.sub(r"[^\w.-]+", "-", model)
    return cache() / "replies" / f"{words}-{content_key(model=model)[:12]}.jsonl"


def bill(model: str, prices: dict[str, float] | None) -> Bill:
    """Return what the replies of a model cost, at these prices per million tokens."""
    path = replies_file(model)
    if not path.is_file():
        return Bill(model)
    calls = prompt = reply = damaged = 0
    with path.open("rb") as stream:
        for line in stream:
            try:
                row = parse_json(line.decode())[1]
                prompt, reply = prompt + int(row["prompt_tokens"]), reply + int(row["tokens"])
                calls += 1
            except (ValueError, LookupError, TypeError):
                damaged += 1
    money = None if not prices else (prompt * prices["prompt"] + reply * prices["completion"]) / 1e6
    return Bill(model, calls, prompt, reply, money, damaged)
