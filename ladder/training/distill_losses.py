"""Knowledge distillation losses, and a trainer whose loss is a token sum over the whole step.

All losses are per token, in nats. A "target" is a compressed teacher distribution (ladder/training/teacher_logits.py).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import Trainer

from ladder.pipeline.stage import UserError

Sums = dict[str, Tensor]
TOKENS = 2048  # maximum number of positions with float32 logits at a time


class TokenTrainer(Trainer):
    """transformers' Trainer for losses that are token sums, divided by the number of learned tokens of the step.

    Gradient accumulation and data parallelism therefore give exactly the result of one larger batch. A subclass defines
    `sums`. Entries besides `loss` are logged as means over tokens.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.model_accepts_loss_kwargs = True  # Trainer then counts the labels of the whole step
        self.seen: Sums = {}
        self.evaluated: Sums = {}

    def sums(self, model: Any, batch: dict[str, Tensor]) -> Sums:
        """Compute `loss` and optional parts, each summed over the batch's learned tokens."""
        raise NotImplementedError

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        sums = self.sums(model, inputs)
        tokens = (inputs["labels"] != -100).sum()
        seen = self.seen if model.training else self.evaluated
        for name, value in {**sums, "tokens": tokens}.items():
            seen[name] = seen.get(name, 0) + value.detach()
        if not model.training:
            return sums["loss"] / tokens.clamp(min=1)
        # Processes average their gradients. If the token count is global, the average must be multiplied by their
        # number.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return sums["loss"] * (processes / num_items_in_batch)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "eval_loss" in logs:  # mean over tokens, not over batches; in place, because evaluate returns the same dict
            means, self.evaluated = self._means(self.evaluated), {}
            logs.update({f"eval_{name}": mean for name, mean in means.items()})
        if "loss" in logs:
            means, self.seen = self._means(self.seen), {}
            logs = {**logs, **{name: mean for name, mean in means.items() if name != "loss"}}
        super().log(logs, *rest)

    def _means(self, sums: Sums) -> dict[str, float]:
        """Mean of each sum per token, over all processes."""
        totals = {name: self.accelerator.reduce(value.float()).item() for name, value in sums.items()}
        tokens = totals.pop("tokens")
        return {name: total / tokens for name, total in totals.items()}


def check_whole(trainer: Trainer, key: str) -> None:
    """Refuse sharded weights (FSDP) if the params.yaml key `key` needs whole weights.

    Errors: UserError.
    """
    if trainer.accelerator.distributed_type == DistributedType.FSDP:
        raise UserError(
            f"{key}: needs unsharded weights on every process. Launch with launch/ddp.yaml, or set it to 0."
        )


def in_chunks(loss: Callable[..., Tensor], *of_tokens: Tensor) -> Tensor:
    """Sum a loss over tokens in chunks, with activation checkpointing to avoid large float32 logits.

    `loss` gets chunks of the tensors [tokens, ...], half-precision ones as float32, and returns a vector of sums.
    """

    def in_float32(*part: Tensor) -> Tensor:
        return loss(*(tensor.float() if tensor.dtype in (torch.bfloat16, torch.half) else tensor for tensor in part))

    parts = zip(*(tensor.split(TOKENS) for tensor in of_tokens), strict=True)
    sums: list[Any] = [checkpoint(in_float32, *part, use_reentrant=False) for part in parts]
    return torch.stack(sums).sum(0)


def divergence_from_target(
    logits: Tensor, indices: Tensor, weights: Tensor, rest: Tensor, entropy: Tensor, *, temperature: float
) -> Tensor:
    """KL(teacher_T || student_T) [tokens] from a target with the probabilities of some tokens only.

    logits [tokens, vocabulary] of the student; indices, weights [tokens, k]; rest, entropy [tokens].

    The value is -sum_k w_k log s_k - rest log(sum of s over all other tokens) - H. With sampled weights (rest 0, H of
    the full teacher distribution), the value and its gradient are unbiased. With the top-k tokens and one bucket for
    the others, it is the KL of the two coarsened distributions, which is at most the full KL. No probability mass is
    renormalized away.
    """
    student = (logits / temperature).log_softmax(-1)
    cross = -(weights * student.gather(-1, indices)).sum(-1)
    if rest.any():
        others = student.scatter(-1, indices, -torch.inf).logsumexp(-1)
        cross = cross - rest * others
    return cross - entropy


def hinton_sums(
    logits: Tensor,
    labels: Tensor,
    indices: Tensor,
    weights: Tensor,
    rest: Tensor,
    entropy: Tensor,
    *,
    alpha: float,
    temperature: float,
) -> Tensor:
    """Hinton distillation loss, [3]: alpha * CE + (1 - alpha) * T^2 * KL, CE and KL, each summed over tokens.

    labels int64 [tokens]; logits [tokens, vocabulary] of the student; indices, weights [tokens, k]; rest, entropy
    [tokens] as in `divergence_from_target`. T^2 keeps the scale of the KL's gradient when T changes (Hinton et al.
    2015, section 2).
    """
    cross_entropy = F.cross_entropy(logits, labels, reduction="sum")
    divergence = divergence_from_target(logits, indices, weights, rest, entropy, temperature=temperature).sum()
    return torch.stack([alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence, cross_entropy, divergence])


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) [tokens] of two log-distributions [tokens, vocabulary]."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def generalized_jsd(student: Tensor, teacher: Tensor, *, beta: float, temperature: float) -> Tensor:
    """Generalized Jensen-Shannon divergence D_JSD(beta)(teacher || student) [tokens] (Agarwal et al. 2024, eq. 1).

    The value is beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q. P is the teacher and Q the
    student, both at the given temperature. At beta 0 and 1 the value is the limit after division by beta or 1 - beta:
    the forward KL(P || Q) at 0 and the reverse KL(Q || P) at 1. student, teacher: logits [tokens, vocabulary].
    """
    q, p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    if beta == 0:
        return divergence(p, q)
    if beta == 1:
        return divergence(q, p)
    share = torch.tensor(beta, dtype=q.dtype, device=q.device)
    mixture = torch.logaddexp(p + share.log(), q + (-share).log1p())
    return beta * divergence(p, mixture) + (1 - beta) * divergence(q, mixture)
