"""Store the teacher's token distributions for distillation, once for every sweep of a student's alpha or size.

They take about a hundred bytes per token: the most likely tokens exactly, and unbiased draws from the others.

Metrics:
    bytes_per_token          size of the stored targets
    gradient_error           root mean square of the error |w - p| of the loss's gradient at a token
    gradient_bias            norm of the mean of that error over all tokens
    gradient_bias_by_chance  the value of gradient_bias expected of an unbiased target
    kl_dense_decoded         without draws only: mean KL in nats to the head with the rest spread evenly

python -m stages.teacher_logits chat data/filter/chat.jsonl models/dpo/chat models/base \
    data/teacher_logits/chat.safetensors metrics/teacher_logits/chat.json
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered
from ladder.data.jsonl import of_split, read_rows, write_json
from ladder.models.checkpoint import Model, device, load_complete
from ladder.models.scoring import batches
from ladder.pipeline.disk import check_space
from ladder.pipeline.stage import Config, run
from ladder.training.distill_losses import divergence
from ladder.training.sft_examples import Example, collate, examples, learned_logits
from ladder.training.teacher_logits import Kept, Taught, dense, keep, save_taught, target


class Params(Config):
    model: str
    """Teacher rung: the best one so far."""
    data: str
    """Rows whose answers the teacher scores: `filter/chat`."""
    split: str | None
    """Split of the rows to use; null takes all."""
    temperature: Annotated[float, Field(gt=0)]
    """Temperature of the stored distributions, above 0; the student uses the same one."""
    top_k: Annotated[int, Field(ge=0)]
    """Number of most likely tokens kept with their probabilities: 4 bytes each."""
    samples: Annotated[int, Field(ge=0)]
    """Number of draws from the other tokens: 2 bytes each. 0 keeps only their total mass, a biased target."""
    max_length: int
    """Maximum length in tokens; longer rows are left out."""
    seed: int
    """Seed of the draws."""


@torch.inference_mode()
def distributions(teacher: Model, rows: list[Example], temperature: float) -> Iterator[tuple[int, Tensor]]:
    """Yield each row's index and the teacher's log-probabilities [learned, vocabulary]; longest rows first."""
    with tqdm(total=len(rows), desc="teacher_logits", unit="row") as bar:
        for group in batches([len(row["input_ids"]) for row in rows], 4096):
            batch = {name: part.to(device()) for name, part in collate([rows[index] for index in group]).items()}
            logits, _ = learned_logits(teacher.model, batch)
            counts = [int((rows[index]["labels"] != -100).sum()) for index in group]
            for index, part in zip(group, logits.split(counts), strict=True):
                yield index, (part.float() / temperature).log_softmax(-1)
            bar.update(len(group))


class Errors:
    """Error of the stored targets against the dense distributions. The gradient of the loss by a student's logits is
    its own distribution minus the target. The gradient's error is therefore the target's, whatever the student."""

    def __init__(self, vocabulary: int) -> None:
        self.tokens, self.squares, self.divergence = 0, 0.0, 0.0
        self.sum = torch.zeros(vocabulary, dtype=torch.float64)

    def add(self, logps: Tensor, kept: Kept) -> None:
        """Add a row's stored targets, against its dense log-probabilities [learned, vocabulary]."""
        decoded = dense(target(kept), logps.shape[-1])
        error = decoded.double() - logps.double().exp()
        self.tokens += len(logps)
        self.squares += error.square().sum().item()
        self.sum += error.sum(0).cpu()
        if not kept.draws.shape[-1]:
            self.divergence += divergence(logps, decoded.clamp_min(1e-30).log()).sum().item()

    def measured(self, *, sampled: bool) -> dict[str, float]:
        """Return the metrics over all rows; `sampled` says whether the targets have draws."""
        error = (self.squares / self.tokens) ** 0.5
        found = {
            "gradient_error": round(error, 5),
            "gradient_bias": round(self.sum.norm().item() / self.tokens, 5),
            "gradient_bias_by_chance": round(error / self.tokens**0.5, 5),
        }
        return found if sampled else {"kl_dense_decoded": round(self.divergence / self.tokens, 5), **found}


def main(params: Params, data: Path, model: Path, base: Path, output: Path, metrics: Path) -> None:
    """Store the teacher's distributions on the rows of `data` in `output` (safetensors).

    Errors: UserError when the disk lacks space for the targets.
    """
    teacher = load_complete(model, base)
    rows = of_split(read_rows(data), params.split, data)
    fitting = examples(rows, data, teacher.tokenizer, within(params.max_length, teacher.model))
    learned = answered(fitting, data, teacher.tokenizer)
    vocabulary = teacher.model.config.vocab_size
    errors, found = Errors(vocabulary), {}
    counts = [int((row["labels"] != -100).sum()) for row in learned]
    check_space(output, sum(counts) * (4 * params.top_k + 2 * params.samples + 6), "the teacher's targets")
    starts = torch.rand(sum(counts), dtype=torch.float64, generator=torch.Generator().manual_seed(params.seed))
    starts_of = starts.split(counts)
    for index, logps in distributions(teacher, learned, params.temperature):
        kept = keep(logps, starts_of[index].to(logps.device), top_k=params.top_k, samples=params.samples)
        errors.add(logps, kept)
        found[index] = kept
    taught = Taught(
        [row["input_ids"] for row in learned],
        [row["labels"] != -100 for row in learned],
        joined([found[index] for index in range(len(learned))]),
        params.temperature,
        teacher.rung.identity,
    )
    save_taught(output, taught, vocabulary=vocabulary)
    size = output.stat().st_size / errors.tokens
    measured = {"bytes_per_token": round(size, 1), **errors.measured(sampled=params.samples > 0)}
    counts_of_rows = {
        "rows": len(learned),
        "too_long": len(rows) - len(fitting),
        **report("teacher_logits", empty_answers=len(fitting) - len(learned)),
    }
    write_json(metrics, {**measured, "tokens": errors.tokens, **counts_of_rows})


def joined(parts: list[Kept]) -> Kept:
    """Concatenate the rows' targets on the CPU."""
    names = ("head", "head_logps", "draws", "rest_logp", "entropy")
    return Kept(*(torch.cat([getattr(part, name) for part in parts]).cpu() for name in names))


if __name__ == "__main__":
    run(main, named=True)
