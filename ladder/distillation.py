"""Knowledge distillation from cached logits: the loss, and the teacher's top-k on disk.

L = alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T)      (Hinton et al. 2015, section 2)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ladder.run import Refused


@dataclass(frozen=True)
class TeacherLogits:
    """What a teacher said of every token of every answer, rows one after another.

    ids, mask: int64 [tokens], the conversations and what of them is learned; offsets: int64 [rows + 1];
    indices: int64 [learned, k] and values: float32 [learned, k], the k largest logits at each learned token
    (predicted from the token before), as log-probabilities at temperature 1.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    offsets: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor
    teacher: str
    """Identity of the teacher's rung."""
    tokenizer: str
    """Hash of its tokenizer: token 5 must mean the same to the student."""


def save_teacher(path: Path, logits: TeacherLogits) -> None:
    """Write to safetensors: indices as int32, values as bfloat16; 6 k bytes a learned token."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    save_file(
        {
            "ids": logits.ids.int(),
            "mask": logits.mask.bool(),
            "offsets": logits.offsets,
            "indices": logits.indices.int(),
            "values": logits.values.bfloat16(),
        },
        temporary,
        metadata={"teacher": logits.teacher, "tokenizer": logits.tokenizer},
    )
    temporary.replace(path)


def load_teacher(path: Path) -> TeacherLogits:
    """Read what save_teacher wrote. Errors: Refused when the file is missing or cut."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            made_by = file.metadata()
    except (FileNotFoundError, SafetensorError) as error:
        raise Refused(f"{path}: not a file of teacher logits: {error}; `dvc repro` makes it again") from None
    return TeacherLogits(
        parts["ids"].long(),
        parts["mask"].long(),
        parts["offsets"],
        parts["indices"].long(),
        parts["values"].float(),
        made_by["teacher"],
        made_by["tokenizer"],
    )


def distillation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    indices: torch.Tensor,
    values: torch.Tensor,
    *,
    alpha: float,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(loss, CE, KL), means over tokens, in nats.

    logits: float [tokens, vocabulary] of the student; labels: int64 [tokens]; indices, values: [tokens, k].
    The teacher's distribution at T is made of its k largest logits alone, so the KL is biased toward the head of
    the distribution; with k = vocabulary it is exact.
    """
    cross_entropy = F.cross_entropy(logits, labels)
    teacher = (values / temperature).log_softmax(-1)
    student = (logits / temperature).log_softmax(-1).gather(-1, indices)
    divergence = (teacher.exp() * (teacher - student)).sum(-1).mean()
    return alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence, cross_entropy, divergence
