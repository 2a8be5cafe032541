"""Precompute the reference model's log-probabilities of preference pairs or unpaired preferences.

They are computed once, so a sweep of beta or the learning rate does not compute them again.

python -m stages.reference_logprobs chat data/preferences/chat.jsonl models/sft/chat models/base \
    data/reference_logprobs/chat.jsonl
"""

from collections.abc import Iterable
from pathlib import Path

from ladder.chat.context_length import report, within
from ladder.data.jsonl import Row, read_rows, write_rows
from ladder.models.checkpoint import Model, load
from ladder.models.scoring import completion_logps
from ladder.pipeline.stage import Config, UserError, run
from ladder.training.pair_examples import all_pair_tokens, fits
from ladder.training.unpaired_examples import all_unpaired, all_unpaired_tokens


class Params(Config):
    model: str
    """Reference model: the rung that preference tuning starts from."""
    data: str
    """Preference pairs: `preferences/chat`; or unpaired preferences, for kto: `source/feedback`."""


def inside(rows: list[Row], tokens: list[Row], limit: int | None, data: Path) -> list[tuple[Row, Row]]:
    """Return (row, its tokens) for the rows that fit the reference's context. Errors: UserError when none fits."""
    kept = [(row, ids) for row, ids in zip(rows, tokens, strict=True) if fits(ids, limit)]
    if not kept:
        raise UserError(f"{data}: none of {len(rows)} rows fits the reference's context of {limit} tokens")
    report("reference_logprobs", too_long=len(rows) - len(kept))
    return kept


def referenced(rows: list[tuple[Row, Row]], reference: Model, progress: str) -> Iterable[Row]:
    """Add ref_completion_logps and the reference's identity to unpaired preferences, given with their tokens."""
    prompts, completions = ([tokens[name] for _, tokens in rows] for name in ("prompt_ids", "completion_ids"))
    logps = completion_logps(reference, prompts, completions, progress=progress)
    return (
        {**row, "ref_completion_logps": logp, "reference": reference.rung.identity}
        for (row, _), logp in zip(rows, logps, strict=True)
    )


def main(params: Params, data: Path, model: Path, base: Path, output: Path) -> None:
    """Add the log-probabilities of the reference `model` to the rows of `data`; write them to `output`.

    Rows that do not fit the reference's context are left out. Errors: UserError when none fits.
    """
    rows, reference = read_rows(data), load(model, base)
    limit = within(None, reference.model)
    if all_unpaired(rows, data):
        tokens = all_unpaired_tokens(reference.tokenizer, rows, data)
        write_rows(output, referenced(inside(rows, tokens, limit, data), reference, f"reference {output.stem}"))
        return
    kept = inside(rows, all_pair_tokens(reference.tokenizer, rows, data), limit, data)
    rows, pairs = [row for row, _ in kept], [pair for _, pair in kept]
    prompts = [pair["prompt_ids"] for pair in pairs]
    completions = [pair["chosen_ids"] for pair in pairs] + [pair["rejected_ids"] for pair in pairs]
    logps = completion_logps(reference, prompts * 2, completions, progress=f"reference {output.stem}")
    write_rows(
        output,
        (
            {**row, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected, "reference": reference.rung.identity}
            for row, chosen, rejected in zip(rows, logps, logps[len(rows) :], strict=False)
        ),
    )


if __name__ == "__main__":
    run(main, named=True)
