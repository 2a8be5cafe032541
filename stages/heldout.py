"""Held-out evaluation of a skill: a rung's answers to prompts it was not trained on, verified by their checks.

The pass rate counts answers that meet all checks, whether or not they ended by themselves; the finish rate counts those
that did.

python -m stages.heldout problems/maths-heldout data/problems/maths-heldout.jsonl models/sft/maths models/base \
    data/heldout/problems/maths-heldout/sft/maths.jsonl metrics/heldout/problems/maths-heldout/sft/maths.json
"""

from pathlib import Path

from ladder.data.jsonl import Row, write_json, write_rows
from ladder.eval.measures import MEASURES, made_by, scores
from ladder.inference.answer_cache import Speaker
from ladder.pipeline.stage import UserError, run
from ladder.synthesis.rejection_sampling import Draws, asked, judged, repeated
from ladder.verifiers.reasoning import unfinished

METRICS = {"pass_rate": "pass", "reward": "reward", "finish_rate": "finish", "tokens": "tokens"}


class Params(Draws):
    """How the prompts are answered: alike by every rung, so that rungs compare prompt by prompt. The entry's name is
    that of the prompts: `problems/maths-heldout` reads data/problems/maths-heldout.jsonl."""


def summary(rows: list[Row], output: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return means (rates in percent, tokens), and their 95% intervals as `<name>_low` and `<name>_high`."""
    means, intervals = {}, {}
    for name, measure in METRICS.items():
        found = scores(rows, MEASURES["heldout"][measure], output)
        means[name] = round(found.mean, 2)
        intervals[f"{name}_low"], intervals[f"{name}_high"] = (round(bound, 2) for bound in found.interval)
    return means, intervals


def main(params: Params, prompts: Path, model: Path, base: Path, output: Path, metrics: Path) -> None:
    """Sample answers to `prompts` and verify them; write the rows to `output` and the summary to `metrics`.

    Errors: UserError for a prompt without checks.
    """
    chosen = asked(params, prompts)
    for number, row in enumerate(chosen, start=1):
        if not row["checks"]:
            raise UserError(f"{prompts}: prompt {number}: no check; expected at least one to verify its answers")
    speaker = Speaker(model, base)
    conversations = repeated(chosen, params.samples)
    answers = speaker.answers(conversations, params.sampling, progress=f"heldout {speaker.rung.rung}")
    rows = list(judged(chosen, answers, params.samples, edits=False))
    write_rows(output, rows)
    means, interval = summary(rows, output)
    counts = {"asked": len(chosen)}
    if cut := sum(unfinished(row["completion"][0]["content"]) for row in rows):
        counts["unfinished_reasoning"] = cut
    made = made_by(params, prompts, "prompts", speaker.rung.rung, speaker.rung.identity, **counts)
    write_json(metrics, {**means, "interval": interval, "made_by": made})


if __name__ == "__main__":
    run(main, named=True)
