"""Log-probabilities of answers to the same prompt, with the prompt computed once, on a CPU.

TRL's online trainers repeat the prompt for every answer of a group. Here one row holds a prompt and all its answers:
each answer sees the prompt and itself, and its positions continue the prompt's. Keys and values of a token depend only
on what it sees, so values and gradients are those of the repeated rows, up to rounding. With 8 short answers to a
prompt of 60 tokens, a row is a quarter as long.

The answers' tokens do not see each other, but dense attention computes their scores too. On a GPU, where attention
kernels skip what lies above the diagonal and answers are long, this would cost more than it saves.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ladder.inference.kv_cache import fits_slots


class Row(NamedTuple):
    """A prompt and its answers, end to end: the prompt without its last token, then this token and an answer, in turn.

    The last token of the prompt predicts the first of every answer, so each answer has a copy of it.
    """

    tokens: Tensor
    """int64 [length]"""
    positions: Tensor
    """int64 [length], as in the repeated rows."""
    blocks: Tensor
    """int64 [length]: 0 for the prompt, n for the n-th answer."""
    answered: Tensor
    """bool [length]: tokens of the answers themselves."""


def row_of(prompt: Tensor, answers: list[Tensor]) -> Row:
    """Lay out a prompt, int64 [length], and its answers, each int64 [length]."""
    start, last = prompt[:-1], prompt[-1:]
    parts = [torch.cat([last, answer]) for answer in answers]
    first = len(start)
    return Row(
        torch.cat([start, *parts]),
        torch.cat([torch.arange(first), *(first + torch.arange(len(part)) for part in parts)]),
        torch.cat([torch.zeros(first), *(torch.full((len(part),), n) for n, part in enumerate(parts, 1))]).long(),
        torch.cat([torch.zeros(first), *(torch.arange(len(part)) > 0 for part in parts)]).bool(),
    )


def visible(blocks: Tensor) -> Tensor:
    """Which earlier tokens a token sees: the prompt, and its own answer. blocks [rows, length]; bool [rows, length,
    length], query before key."""
    same = blocks[:, :, None] == blocks[:, None, :]
    return (same | (blocks == 0)[:, None, :]).tril()


def groups_of(prompts: list[Tensor]) -> list[list[int]]:
    """Positions of equal prompts. TRL shuffles the rows of a step, so they need not be neighbors."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        found.setdefault(tuple(prompt.tolist()), []).append(index)
    return list(found.values())


class SharedPrompts:
    """Mixin before TRL's GRPOTrainer or RLOOTrainer."""

    accelerator: Any

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **others: Any,
    ) -> Any:
        """Log-probabilities and entropies of the answers, both float32 [rows, logits_to_keep], and None.

        input_ids and attention_mask [rows, length]: prompts padded on the left, answers on the right.
        """
        if input_ids.device.type != "cpu" or any(others.values()) or not self._may_share(model):
            return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **others
            )
        seen = attention_mask.bool()
        prompts = [
            ids[kept] for ids, kept in zip(input_ids[:, :-logits_to_keep], seen[:, :-logits_to_keep], strict=True)
        ]
        kept = seen[:, -logits_to_keep:]
        answers = [ids[each] for ids, each in zip(input_ids[:, -logits_to_keep:], kept, strict=True)]
        groups = groups_of(prompts)
        rows = [row_of(prompts[group[0]], [answers[index] for index in group]) for group in groups]
        tokens, positions, blocks, answered = (
            pad_sequence(list(part), batch_first=True) for part in zip(*rows, strict=True)
        )
        mask = torch.zeros(blocks.shape[0], 1, *[blocks.shape[1]] * 2).masked_fill(
            ~visible(blocks)[:, None], -torch.inf
        )
        output = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            labels=tokens.masked_fill(~answered, -100),
            fused_lm_head=True,
        )
        order = torch.tensor([index for group in groups for index in group])

        def placed(values: Tensor) -> Tensor:
            """Move values [groups, length - 1] of the predicted tokens to their rows [rows, logits_to_keep]."""
            by_group = values.new_zeros(kept.shape).masked_scatter(kept[order], values[answered[:, 1:]])
            return by_group[order.argsort()]

        return placed(output.log_probs), placed(output.entropy) if compute_entropy else None, None

    def _may_share(self, model: Any) -> bool:
        """Whether the model accepts this mask: families whose tokens see others by attention alone, in float32."""
        plain: Any = self.accelerator.unwrap_model(model)
        plain = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        return self.accelerator.mixed_precision == "no" and plain.dtype == torch.float32 and fits_slots(plain.config)
