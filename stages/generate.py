"""Sample answers to our prompts and let the checks judge them: the raw material of fine-tuning.

python -m stages.generate chat data/prompts.jsonl models/base models/base data/generate/chat.jsonl \
    metrics/generate/chat.json
"""

from pathlib import Path

from ladder.rows import write_json, write_rows
from ladder.run import run
from ladder.samples import Samples, rates, sample


class Params(Samples):
    """Which rung answers which prompts, and how."""


def main(params: Params, prompts: Path, model: Path, base: Path, output: Path, metrics: Path) -> None:
    rows = sample(params, prompts, model, base, progress=f"generate {output.stem}")
    write_rows(output, rows)
    edited = sum(row["edited"] for row in rows)
    told = {**rates(rows), "samples": len(rows) - edited, "edited": edited}
    if params.endpoint:  # a rung always replies
        told["no_reply"] = sum(not row["tokens"] and not row["finished"] for row in rows)
    write_json(metrics, told)


if __name__ == "__main__":
    run(main, named=True)
