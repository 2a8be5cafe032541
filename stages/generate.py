"""Sample answers to prompts and verify them with the prompts' checks, as raw material for fine-tuning.

python -m stages.generate chat data/prompts.jsonl models/base models/base data/generate/chat.jsonl \
    metrics/generate/chat.json
"""

from pathlib import Path

from ladder.data.atomic_write import whole
from ladder.data.jsonl import Row, encoded, write_json
from ladder.inference.endpoint import served_by
from ladder.pipeline.stage import run
from ladder.synthesis.rejection_sampling import Samples, Tally, sample


class Params(Samples):
    """Which rung answers which prompts, and how."""


def main(params: Params, prompts: Path, model: Path, base: Path, output: Path, metrics: Path) -> None:
    """Sample answers to `prompts`; write the rows to `output` and the pass rates to `metrics`."""
    rows, tally = sample(params, prompts, model, base, progress=f"generate {output.stem}"), Tally()
    with whole(output) as file:
        for row in rows:
            file.write(encoded(row, f"{output}: row {row['id']!r}"))
            tally.add(row)
    summary: Row = {**tally.rates(), "samples": tally.samples, "edited": tally.edited}
    if params.endpoint:  # a rung always replies
        summary |= {"no_reply": tally.unanswered, **served_by(params.endpoint)}
    write_json(metrics, summary)


if __name__ == "__main__":
    run(main, named=True)
