"""Token length filter: length of a conversation as trained, for comparison with a trainer's `max_length`."""

from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ladder.chat.rendering import Messages, render
from ladder.data.jsonl import Row
from ladder.models.rung import read_rung
from ladder.pipeline.bounds import Number
from ladder.pipeline.stage import UserError


def token_length(batch: list[Row], *, min: Number, max: Number, base: Path) -> list[str | None]:
    """Keep conversations of `min` to `max` tokens in the base model's chat template and tokenizer.

    For a preference pair, the longer of its two conversations counts. Errors: UserError for a row that the chat
    template does not accept, with the row's id.
    """
    tokenizer = _tokenizer(base)
    rendered = [_rendered(tokenizer, row) for row in batch]
    texts = [text for several in rendered for text in several]
    counts = iter([len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids] if texts else [])
    lengths = (sorted(next(counts) for _ in several)[-1] for several in rendered)
    return [None if min <= length <= max else f"{length} tokens" for length in lengths]


def _rendered(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[str]:
    where = f"row {row.get('id')}"
    return [render(tokenizer, messages, answer=False, where=where) for messages in _conversations(row)]


def _conversations(row: Row) -> list[Messages]:
    if "messages" in row:
        return [row["messages"]]
    answers = [row[name] for name in ("completion", "chosen", "rejected") if name in row]
    return [row["prompt"] + answer for answer in answers or [[]]]


@lru_cache(maxsize=1)
def _tokenizer(base: Path) -> PreTrainedTokenizerBase:
    if not (base / "tokenizer_config.json").is_file():
        raise UserError(f"{base}: expected a rung with a tokenizer (tokenizer_config.json), got none")
    if (base / "rung.json").is_file():
        read_rung(base)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    return tokenizer
