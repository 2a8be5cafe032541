"""Knowledge distillation: its losses, and a trainer whose loss is a sum over the tokens that a step learns.

All losses are per token, in nats. A "target" is what is kept of a teacher's distribution
(ladder/training/teacher_logits.py).
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
TOKENS = 2048  # logits of so many tokens are in float32 at once


class TokenTrainer(Trainer):
    """transformers' trainer with a loss of ours: sums over a batch's learned tokens, divided by the step's count.

    So accumulated batches, and several processes, give exactly what one larger batch gives. A subclass defines
    `sums`; besides the loss it may hold parts, which are logged as means over tokens.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of the whole step
        self.seen: Sums = {}
        self.evaluated: Sums = {}

    def sums(self, model: Any, batch: dict[str, Tensor]) -> Sums:
        """`loss` and its parts, each summed over the batch's learned tokens."""
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
        # Several processes average their gradients; where the count is of them all, the average is too small.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return sums["loss"] * (processes / num_items_in_batch)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "eval_loss" in logs:  # a mean over tokens, not over batches; in place, because evaluate returns it
            means, self.evaluated = self._means(self.evaluated), {}
            logs.update({f"eval_{name}": mean for name, mean in means.items()})
        if "loss" in logs:
            means, self.seen = self._means(self.seen), {}
            logs = {**logs, **{name: mean for name, mean in means.items() if name != "loss"}}
        super().log(logs, *rest)

    def _means(self, sums: Sums) -> dict[str, float]:
        """Means over tokens, of all processes."""
        totals = {name: self.accelerator.reduce(value.float()).item() for name, value in sums.items()}
        tokens = totals.pop("tokens")
        return {name: total / tokens for name, total in totals.items()}


def check_whole(trainer: Trainer, key: str) -> None:
    """Refuse weights that are held in parts (FSDP), where `key` of params.yaml needs them whole."""
    if trainer.accelerator.distributed_type == DistributedType.FSDP:
        raise UserError(f"{key} needs whole weights on every process; launch with launch/ddp.yaml, or set it to 0")


def in_chunks(loss: Callable[..., Tensor], *of_tokens: Tensor) -> Tensor:
    """Sum of `loss` over tokens, a chunk at a time: what it makes of its logits is made again in the backward pass.

    `loss` takes chunks of the tensors [tokens, ...], those in half precision as float32, and returns a vector of sums.
    """

    def in_float32(*part: Tensor) -> Tensor:
        return loss(*(tensor.float() if tensor.dtype in (torch.bfloat16, torch.half) else tensor for tensor in part))

    parts = zip(*(tensor.split(TOKENS) for tensor in of_tokens), strict=True)
    sums: list[Any] = [checkpoint(in_float32, *part, use_reentrant=False) for part in parts]
    return torch.stack(sums).sum(0)


def divergence_from_target(
    logits: Tensor, indices: Tensor, weights: Tensor, rest: Tensor, entropy: Tensor, *, temperature: float
) -> Tensor:
    """KL(teacher_T || student_T) [tokens], of a target that names only some tokens.

    logits [tokens, vocabulary] of the student; indices, weights [tokens, k]; rest, entropy [tokens].
    -sum_k w_k log s_k - rest log(sum of s over all others) - H. With sampled weights (rest 0, H that of the teacher)
    it and its gradient are unbiased. With the k likeliest tokens alone, and the others as one bucket, it is the KL of
    the two coarser distributions, at most that of the full ones; no mass is renormalised away.
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
    """[3]: alpha * CE + (1 - alpha) * T^2 * KL (Hinton et al. 2015, section 2), CE and KL, summed over tokens.

    labels int64 [tokens]; the others as above. T^2 keeps the size of the KL's gradient while T changes.
    """
    cross_entropy = F.cross_entropy(logits, labels, reduction="sum")
    divergence = divergence_from_target(logits, indices, weights, rest, entropy, temperature=temperature).sum()
    return torch.stack([alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence, cross_entropy, divergence])


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) [tokens] of two log-distributions [tokens, vocabulary]."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def generalized_jsd(student: Tensor, teacher: Tensor, *, beta: float, temperature: float) -> Tensor:
    """D_JSD(beta)(teacher || student) [tokens] (Agarwal et al. 2024, eq. 1).

    beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q, P the teacher, Q the student, both softened
    by the temperature. At its ends stand what it tends to when divided by beta or 1 - beta: KL(P || Q) at 0, the
    forward KL, and KL(Q || P) at 1, the reverse. student, teacher: logits [tokens, vocabulary].
    """
    q, p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    if beta == 0:
        return divergence(p, q)
    if beta == 1:
        return divergence(q, p)
    share = torch.tensor(beta, dtype=q.dtype, device=q.device)
    mixture = torch.logaddexp(p + share.log(), q + (-share).log1p())
    return beta * divergence(p, mixture) + (1 - beta) * divergence(q, mixture)
