"""Speculative decoding: a distilled student drafts tokens, and its teacher verifies several in one forward pass.

Greedy decoding: the teacher keeps the drafted tokens that it would have chosen itself, and adds one (Leviathan et al.
2023, algorithm 1 at temperature 0). The answers are therefore the teacher's own. Plain and speculative decoding use the
same loop at batch size 1, one after the other on each prompt.

An answer can still differ from plain decoding: a forward pass over several tokens sums in another order, and rounding
decides when the teacher's two most likely tokens are nearly equal. The row then records the token position and the
margin in nats.

python -m stages.speculate maths data/problems/maths-heldout.jsonl models/sft/maths models/gkd/onpolicy models/base \
    data/speculate/maths.jsonl metrics/speculate/maths.json
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import Row, column, of_split, read_rows, write_json, write_rows
from ladder.inference.local import decoded
from ladder.models.checkpoint import check_same_tokenizer, load_complete
from ladder.pipeline.stage import Config, run


class Params(Config):
    data: str
    """Prompts: `problems/maths-heldout`."""
    split: str | None
    """Split of the prompts to use; null takes all."""
    prompts: Annotated[int, Field(gt=0)]
    """Number of prompts, from the start of the file."""
    teacher: str
    """Target model: the rung whose answers are wanted."""
    draft: str
    """Draft model: a smaller rung with the same tokenizer, `gkd/onpolicy`."""
    lookahead: Annotated[int, Field(gt=0)]
    """Number of tokens drafted before each forward pass of the teacher."""
    max_new_tokens: Annotated[int, Field(gt=0)]
    """Maximum length of an answer in tokens."""
    dtype: Literal["bfloat16", "float32"]
    """dtype of both models: float32 to show that the answers are equal, bfloat16 as in serving."""


class Reader:
    """A model with a KV cache of the tokens it has read."""

    def __init__(self, model: Any) -> None:
        self.model, self.cache = model, DynamicCache()

    def logits(self, text: list[int] | Tensor, last: int) -> Tensor:
        """Read the tokens; return the logits [last, vocabulary] after each of the last `last` tokens."""
        ids = torch.as_tensor(text, device=self.model.device).view(1, -1)
        output = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=last)
        return output.logits[0]

    @property
    def length(self) -> int:
        return self.cache.get_seq_length()

    def forget_after(self, length: int) -> None:
        """Crop the KV cache to the first `length` tokens."""
        if self.length > length:
            self.cache.crop(length - self.length)


@dataclass(frozen=True)
class Answer:
    """Tokens after a prompt, number of teacher passes, and numbers of drafted tokens accepted and refused."""

    tokens: list[int]
    passes: int
    accepted: int
    refused: int


@torch.inference_mode()
def greedy(teacher: Any, draft: Any, prompt: list[int], *, lookahead: int, limit: int, stop: int) -> Answer:
    """Decode the teacher's greedy answer with drafts of `lookahead` tokens; 0 is plain decoding without a draft."""
    above, below = Reader(teacher), Reader(draft)
    text, passes, accepted, refused = list(prompt), 0, 0, 0
    while True:
        left = len(prompt) + limit - len(text)
        proposed = _proposed(below, text, min(lookahead, left - 1))
        choices = above.logits([*text[above.length :], *proposed], len(proposed) + 1).argmax(-1).tolist()
        passes += 1
        agreed = next((n for n, token in enumerate(proposed) if token != choices[n]), len(proposed))
        new = choices[: agreed + 1]
        ended = stop in new
        new = new[: new.index(stop) + 1] if ended else new
        accepted += min(agreed, len(new))
        refused += agreed < len(proposed) and len(new) == agreed + 1
        text += new
        if ended or len(new) == left:
            return Answer(text[len(prompt) :], passes, accepted, refused)
        for reader in (above, below):
            reader.forget_after(len(text) - 1)


def _proposed(draft: Reader, text: list[int], count: int) -> list[int]:
    """Draft the next tokens [count]; they stay on the device until all are drafted."""
    tokens: list[Tensor] = []
    for _ in range(count):
        logits = draft.logits(tokens[-1] if tokens else text[draft.length :], 1)
        tokens.append(logits.argmax(-1))
    return torch.cat(tokens).tolist() if tokens else []


@torch.inference_mode()
def difference(teacher: Any, prompt: list[int], plain: list[int], other: list[int]) -> tuple[int, float]:
    """Return the first position where two answers differ, and the teacher's margin between its top two tokens, nats."""
    place = next(n for n in range(max(len(plain), len(other))) if plain[n : n + 1] != other[n : n + 1])
    first, second = Reader(teacher).logits(prompt + plain[:place], 1)[0].float().topk(2).values.tolist()
    return place, first - second


def measured(teacher: Any, draft: Any, prompt: list[int], **how: int) -> tuple[Answer, float]:
    """Return an answer and its wall-clock time in seconds."""
    started = time.perf_counter()
    answer = greedy(teacher, draft, prompt, **how)  # its tokens are on the CPU, so the GPU is done
    return answer, time.perf_counter() - started


def main(params: Params, data: Path, teacher: Path, draft: Path, base: Path, output: Path, metrics: Path) -> None:
    """Answer the prompts with plain and with speculative decoding; write answers to `output`, rates to `metrics`.

    Errors: UserError when the tokenizers differ.
    """
    dtype = getattr(torch, params.dtype)
    above, below = load_complete(teacher, base, dtype=dtype), load_complete(draft, base, dtype=dtype)
    check_same_tokenizer(above.rung, below.rung)
    chosen = of_split(read_rows(data), params.split, data)[: params.prompts]
    prompts = [prompt_tokens(above.tokenizer, prompt) for prompt in column(chosen, "prompt", list, data)]
    models, how = (above.model.eval(), below.model.eval()), {"limit": params.max_new_tokens, "stop": above.stop}
    for lookahead in (0, params.lookahead):  # warm up both, so that one-time setup is not measured
        greedy(*models, prompts[0], lookahead=lookahead, **how)
    rows: list[Row] = []
    plain_seconds = fast_seconds = 0.0
    plain_tokens = 0
    for row, prompt in zip(tqdm(chosen, desc="speculate", unit="prompt"), prompts, strict=True):
        plain, plain_time = measured(*models, prompt, lookahead=0, **how)
        fast, fast_time = measured(*models, prompt, lookahead=params.lookahead, **how)
        plain_seconds, fast_seconds = plain_seconds + plain_time, fast_seconds + fast_time
        plain_tokens += len(plain.tokens)
        alike = plain.tokens == fast.tokens
        place, margin = (None, None) if alike else difference(above.model, prompt, plain.tokens, fast.tokens)
        (text,) = decoded(above.tokenizer, [prompt], [fast.tokens])
        rows.append(
            {
                "id": row.get("id", str(len(rows))),
                "prompt": row["prompt"],
                "completion": [{"role": "assistant", "content": text}],
                "tokens": len(fast.tokens),
                "passes": fast.passes,
                "accepted": fast.accepted,
                "refused": fast.refused,
                "differs_at": place,
                "margin": margin,
            }
        )
    write_rows(output, rows)
    plain_rate, fast_rate = plain_tokens / plain_seconds, sum(row["tokens"] for row in rows) / fast_seconds
    rates = {"speed_up": fast_rate / plain_rate, "tokens_per_second": fast_rate, "plain_tokens_per_second": plain_rate}
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write_json(metrics, {**summary(rows), **{name: round(rate, 3) for name, rate in rates.items()}, "device": where})


def summary(rows: list[Row]) -> dict[str, float]:
    """Return the metrics that do not depend on the machine's speed."""
    accepted, refused, passes, tokens = (
        sum(row[name] for row in rows) for name in ("accepted", "refused", "passes", "tokens")
    )
    return {
        "acceptance_rate": round(accepted / max(1, accepted + refused), 4),
        "tokens_per_teacher_pass": round(tokens / passes, 3),
        "prompts": len(rows),
        "equal": sum(row["differs_at"] is None for row in rows),
        "widest_margin": round(max((row["margin"] for row in rows if row["margin"] is not None), default=0.0), 5),
    }


if __name__ == "__main__":
    run(main, named=True)
