"""Divergence of a rung from its teacher on given answers: exact KL(teacher || rung), and cross-entropies.

On the teacher's own answers to held-out prompts, the two measure how well a student was taught. Each row keeps its
sums, so two rungs can be compared row by row. Metrics: nats per token, with 95% bootstrap intervals over rows.

python -m stages.divergence data/generate/heldout.jsonl models/sft/maths models/sft/taught models/base \
    data/divergence/sft/taught.jsonl data/divergence/sft/taught.json metrics/divergence/sft/taught.json
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ladder.data.jsonl import Row, of_split, read_rows, write_json, write_rows
from ladder.eval.measures import made_by
from ladder.models.checkpoint import Model, check_same_tokenizer, device, load_complete
from ladder.models.scoring import batches
from ladder.pipeline.stage import Config, run
from ladder.statistics import bootstrap, ratio
from ladder.training.distill_losses import divergence
from ladder.training.sft_examples import Example, collate, examples, learned_logits


class Params(Config):
    data: str
    """Rows with answers: `generate/heldout`."""
    split: str | None
    """Split of the rows to use; null takes all."""
    teacher: str
    """Rung that the divergence is measured from."""


@torch.inference_mode()
def sums(teacher: Model, rung: Model, rows: list[Example]) -> list[dict[str, float]]:
    """Return per row: the number of learned tokens, and sums over them of the KL and both cross-entropies, in nats."""
    found: dict[int, dict[str, float]] = {}
    with tqdm(total=len(rows), desc=f"divergence of {rung.rung.rung}", unit="row") as bar:
        for group in batches([len(row["input_ids"]) for row in rows], 4096):
            batch = {name: part.to(device()) for name, part in collate([rows[index] for index in group]).items()}
            counts = [int((rows[index]["labels"] != -100).sum()) for index in group]
            taught, _ = learned_logits(teacher.model, batch)
            said, _ = learned_logits(rung.model, batch)
            labels = batch["labels"][:, 1:]
            split = (part.split(counts) for part in (taught, said, labels[labels != -100]))
            for index, p, q, tokens in zip(group, *split, strict=True):
                p, q = p.float().log_softmax(-1), q.float().log_softmax(-1)
                found[index] = {
                    "tokens": len(tokens),
                    "kl": divergence(p, q).sum().item(),
                    "cross_entropy": F.nll_loss(q, tokens, reduction="sum").item(),
                    "teacher_cross_entropy": F.nll_loss(p, tokens, reduction="sum").item(),
                }
            bar.update(len(group))
    return [found[index] for index in range(len(rows))]


def per_token(rows: list[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Return means over all tokens with the count of tokens and rows, and 95% intervals over rows.

    The intervals are `<name>_low` and `<name>_high` of the rung's KL and cross-entropy.
    """
    names = ("tokens", "kl", "cross_entropy", "teacher_cross_entropy")
    tokens, kl, ours, theirs = (np.array([row[name] for row in rows], dtype=float) for name in names)
    means, interval = {}, {}
    for name, nats in (("kl", kl), ("cross_entropy", ours)):
        means[name] = round(ratio(nats, tokens), 5)
        interval[f"{name}_low"], interval[f"{name}_high"] = (round(end, 5) for end in bootstrap(nats, tokens))
    means["teacher_cross_entropy"] = round(ratio(theirs, tokens), 5)
    return {**means, "tokens": int(tokens.sum()), "rows": len(rows)}, interval


def main(
    params: Params, data: Path, teacher: Path, rung: Path, base: Path, output: Path, summary_out: Path, metrics: Path
) -> None:
    """Compare the rung with its teacher on the rows of `data`.

    Writes one row of sums per row, the summary with intervals, and its means to `metrics`.
    Errors: UserError when the tokenizers differ.
    """
    above, below = load_complete(teacher, base), load_complete(rung, base)
    check_same_tokenizer(above.rung, below.rung)
    rows = of_split(read_rows(data), params.split, data)
    found = sums(above, below, examples(rows, data, above.tokenizer, sys.maxsize))
    write_rows(
        output, ({"id": row.get("id", str(n)), **of} for n, (row, of) in enumerate(zip(rows, found, strict=True)))
    )
    means, interval = per_token(found)
    used = params.model_copy(update={"teacher": above.rung.rung})  # a replica's teacher has its own seed
    write_json(summary_out, {**means, "interval": interval, "made_by": made_by(used, data, "data", below.rung)})
    write_json(metrics, means)


if __name__ == "__main__":
    run(main)
