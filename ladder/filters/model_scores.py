"""Filters by numbers of a model that writes nothing: perplexity, reward, and length in tokens.

    perplexity: {min: 2, max: 60}
    rewarded: {min: 0.0}
    token_length: {min: 1, max: 2048}

A high perplexity often means broken text, a low one memorized text. The perplexity is exp of the mean of -log p(token |
all before it) over the tokens that training would learn: every assistant turn with its stop token (Wenzek et al. 2020,
"CCNet", and Marion et al. 2023, arXiv:2309.04564, who keep the middle). Rows of a batch are packed without padding, and
attention does not cross row boundaries (ladder/models/packed_attention.py). In bfloat16 the last digit may depend on
the other rows of the pack.

Reward scales differ between reward models: inspect the rejected rows before choosing a threshold. `token_length` is the
length of a conversation as trained, for comparison with a trainer's `max_length`.
"""

import functools
import math
from itertools import accumulate
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ladder.chat.encode import conversation, encode
from ladder.chat.rendering import Messages, render
from ladder.data.jsonl import Row
from ladder.data.turns import with_chosen, without_reasoning
from ladder.models.checkpoint import Model, device, load, load_reward
from ladder.models.packed_attention import attend_packed
from ladder.models.rung import read_rung
from ladder.models.scoring import rewards
from ladder.pipeline.config import Amount, Number
from ladder.pipeline.stage import UserError

TOKENS = 2048
"""Maximum tokens per pack. A longer row is a pack of its own."""
POSITIONS = 256
"""Number of positions whose logits are converted to float32 at a time."""


def perplexity(batch: list[Row], *, min: Amount, max: Amount, base: Path) -> list[str | None]:
    """Keep rows whose answer has a perplexity of `min` to `max` under the base model.

    For a preference pair, the chosen answer counts. A row longer than the base model's context is rejected.

    Errors: UserError for a row without an answer, or when `base` is not a rung.
    """
    model = _model(base)
    longest = int(model.model.config.max_position_embeddings)
    encoded = []
    for row in batch:
        where = f"row {row.get('id')}"
        encoded.append(encode(model.tokenizer, conversation(with_chosen(row), where), where))
    readable = [index for index, (ids, _) in enumerate(encoded) if len(ids) <= longest]
    losses = mean_losses(model, [encoded[index] for index in readable])
    reasons: list[str | None] = [f"{len(ids)} tokens, the base reads {longest}" for ids, _ in encoded]
    for index, loss in zip(readable, losses, strict=True):
        value = math.exp(loss)
        reasons[index] = None if min <= value <= max else f"perplexity {value:.3g}"
    return reasons


def mean_losses(model: Model, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Mean of -log p over each row's learned tokens, in nats.

    A row is (ids, mask), both [length]; mask is 1 on learned tokens.
    """
    losses = [0.0] * len(rows)
    for pack in packs([len(ids) for ids, _ in rows], TOKENS):
        means = _pack_losses(model, [rows[index] for index in pack])
        for index, loss in zip(pack, means, strict=True):
            losses[index] = loss
    return losses


def packs(lengths: list[int], tokens: int) -> list[list[int]]:
    """Pack rows greedily in order and return row indices per pack: at most `tokens` tokens, at least one row."""
    found: list[list[int]] = []
    room = -1
    for index, length in enumerate(lengths):
        if length > room:
            found.append([])
            room = tokens
        found[-1].append(index)
        room -= length
    return found


@torch.inference_mode()
def _pack_losses(model: Model, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    lengths = [len(ids) for ids, _ in rows]
    ids = torch.tensor([token for row, _ in rows for token in row], device=device())
    # The logits at a position predict the next token. A row's first token is not learned, because it has no context.
    learned = torch.tensor([learn * (place > 0) for _, mask in rows for place, learn in enumerate(mask)])
    targets = learned.nonzero()[:, 0].to(device())
    logits = model.model(
        input_ids=ids[None],
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None].to(device()),
        cu_seq_lens_q=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device()),
        max_length_q=max(lengths),
        use_cache=False,
        logits_to_keep=targets - 1,
    ).logits[0]
    losses = torch.cat(
        [
            torch.nn.functional.cross_entropy(part.float(), ids[wanted], reduction="none")
            for part, wanted in zip(logits.split(POSITIONS), targets.split(POSITIONS), strict=True)
        ]
    )
    owners = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(lengths))[targets.cpu()]
    return [losses[owners == row].double().mean().item() for row in range(len(rows))]


@functools.lru_cache(maxsize=1)
def _model(base: Path) -> Model:
    model = load(base, base)
    model.model.eval()
    attend_packed(model.model)
    return model


def rewarded(batch: list[Row], *, min: float, model: Path, base: Path) -> list[str | None]:
    """Keep rows whose conversation gets a reward of at least `min` from the reward model in `model`.

    For a preference pair, the conversation with the chosen answer is scored.

    Errors: UserError for a row without an answer, and when `model` is not a reward model.
    """
    scorer = _scorer(model, base)
    ids = []
    for row in batch:
        where = f"row {row.get('id')}"
        said = without_reasoning(conversation(with_chosen(row), where))
        ids.append(encode(scorer.tokenizer, said, where, last_only=True)[0])
    return [None if value >= min else f"reward {value:.2f}" for value in rewards(scorer, ids)]


@functools.lru_cache(maxsize=1)
def _scorer(model: Path, base: Path) -> Model:
    return load_reward(model, base)


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


@functools.lru_cache(maxsize=1)
def _tokenizer(base: Path) -> PreTrainedTokenizerBase:
    if not (base / "tokenizer_config.json").is_file():
        raise UserError(f"{base}: expected a rung with a tokenizer (tokenizer_config.json), got none")
    if (base / "rung.json").is_file():
        read_rung(base)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    return tokenizer
