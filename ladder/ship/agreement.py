"""Compare an exported model with its rung: greedy answers, and logits along them.

The rung answers first, and its answers are kept. Then the export is loaded by transformers alone, with its own
tokenizer and chat template, so the comparison is of the files that a user loads.
"""

from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ladder.inference.engine import decode
from ladder.inference.types import Sampling
from ladder.models import gguf
from ladder.models.checkpoint import device

PROMPTS = (
    "Name three colors of the rainbow.",
    "What is 17 + 26? Explain each step.",
    "Schreibe einen kurzen Satz über den Regen.",
)
GREEDY = Sampling(temperature=0.0, max_new_tokens=32)


@dataclass(frozen=True)
class Reference:
    """Greedy answer of the rung to one prompt, and the logits along it [tokens + 1, vocabulary].

    Both are token ids; an answer that ended by itself includes the stop token.
    """

    prompt: list[int]
    answer: list[int]
    logits: Tensor


def answer(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[Reference]:
    """Let a rung answer PROMPTS."""
    prompts = [rendered(tokenizer, text) for text in PROMPTS]
    answers = greedy(model, prompts, tokenizer.eos_token_id)
    return [
        Reference(prompt, tokens, logits(model, prompt, tokens))
        for prompt, tokens in zip(prompts, answers, strict=True)
    ]


def greedy(model: Any, prompts: list[list[int]], stop: int) -> list[list[int]]:
    """Return the greedy answers [prompts][tokens], each with its stop token if it ended by itself."""
    completions = decode(model, prompts, GREEDY, stop=[stop])
    return [[*one.tokens, *([stop] if one.finished else [])] for one in completions]


def rendered(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a question, rendered by the tokenizer's own chat template."""
    turns = [{"role": "user", "content": text}]
    encoded: Any = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


@torch.inference_mode()
def logits(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Return the float32 logits of a model at each token of an answer and after it, on the CPU.

    Shape: [tokens + 1, vocabulary].
    """
    ids = torch.tensor([prompt + answer], device=model.device)
    return model(input_ids=ids).logits[0, len(prompt) - 1 :].float().cpu()


def opened(folder: Path, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase | None]:
    """Load an export by transformers alone: a GGUF file through its own reader, else the folder.

    The tokenizer of a GGUF file is None: transformers reads its tokens and merges, but neither its pre-tokenizer nor
    its stop token.
    """
    if file := next(folder.glob("*.gguf"), None):
        read: Any = gguf.load_model(file, dtype)
        return read.to(device()).eval(), None
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    return model.to(device()).eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def compare(
    references: list[Reference], stop: int, model: Any, tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, Any]:
    """Compare a loaded export with the rung's answers. stop: the rung's stop token.

    Returns the number of prompts, the prompts that the export's tokenizer encodes to the same tokens (None without a
    tokenizer), the greedy tokens of the rung, those before the first difference, and the largest difference of a logit
    along the rung's answers.
    """
    prompts = [one.prompt for one in references]
    read = [rendered(tokenizer, text) for text in PROMPTS] if tokenizer else None
    answers = greedy(model, read or prompts, tokenizer.eos_token_id if tokenizer else stop)
    equal = [_common(one.answer, tokens) for one, tokens in zip(references, answers, strict=True)]
    differences = [(logits(model, one.prompt, one.answer) - one.logits).abs().max().item() for one in references]
    return {
        "prompts": len(prompts),
        "equal_prompts": sum(map(eq, prompts, read)) if read else None,
        "tokens": sum(len(one.answer) for one in references),
        "equal_tokens": sum(equal),
        "largest_logit_difference": max(differences),
    }


def _common(first: list[int], second: list[int]) -> int:
    """Number of tokens before the first difference."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
