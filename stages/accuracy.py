"""Held-out preference accuracy of a rung: the share of pairs where it prefers the chosen answer, and its margin.

Relative: log pi(y_w|x) / pi_ref(y_w|x) against log pi(y_l|x) / pi_ref(y_l|x), DPO's implicit reward without its beta
(Rafailov et al. 2023, eq. 5). Normalized: the mean log-probability of an answer's tokens, which needs no reference
(SimPO's reward, Meng et al. 2024, eq. 4).

python -m stages.accuracy data/reference_logprobs/heldout.jsonl models/dpo/words models/base \
    data/accuracy/dpo/words.jsonl data/accuracy/dpo/words.json metrics/accuracy/dpo/words.json
"""

from operator import itemgetter
from pathlib import Path

from ladder.data.jsonl import Row, column, read_rows, write_json, write_rows
from ladder.eval.measure import Measure
from ladder.eval.measures import MEASURES, made_by, scores
from ladder.models.checkpoint import Model, load
from ladder.models.scoring import completion_logps
from ladder.pipeline.stage import Config, run
from ladder.training.pair_examples import referenced_pair_tokens


class Params(Config):
    data: str
    """Preference pairs with the reference's log-probabilities: `reference_logprobs/heldout`."""


def margins(model: Model, rows: list[Row], data: Path) -> list[Row]:
    """Return each pair's log-probabilities (nats, summed), token counts and margins, in the order of the file.

    A pair whose reference is the model itself has no relative margin: it is 0 by definition.
    """
    column(rows, "id", str, data)
    pairs = referenced_pair_tokens(model.tokenizer, rows, data)
    prompts = [pair["prompt_ids"] for pair in pairs]
    completions = [pair["chosen_ids"] for pair in pairs] + [pair["rejected_ids"] for pair in pairs]
    logps = completion_logps(model, prompts * 2, completions, progress=f"accuracy {model.rung.rung}")
    scored = []
    for number, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        chosen, rejected = logps[number], logps[number + len(rows)]
        chosen_tokens, rejected_tokens = len(pair["chosen_ids"]), len(pair["rejected_ids"])
        score = {
            "id": row["id"],
            "chosen_logp": chosen,
            "rejected_logp": rejected,
            "chosen_tokens": chosen_tokens,
            "rejected_tokens": rejected_tokens,
            "normalized_margin": chosen / chosen_tokens - rejected / rejected_tokens,
        }
        if row.get("reference") != model.rung.identity:
            score["relative_margin"] = (chosen - pair["ref_chosen_logps"]) - (rejected - pair["ref_rejected_logps"])
        scored.append(score)
    return scored


def summary(scored: list[Row], output: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return accuracies in percent and mean margins, and their 95% intervals as `<name>_low` and `<name>_high`.

    The relative margin is in nats, the normalized one in nats per token. A tie counts half. Pairs with the same id
    have the same prompt; the bootstrap resamples prompts.
    """
    means, intervals = {}, {}
    for kind, accuracy in MEASURES["accuracy"].items():
        if not all(f"{kind}_margin" in score for score in scored):
            continue
        margin = Measure("margin", "nats", "higher", itemgetter(f"{kind}_margin"), lambda _: 1.0, False)
        for name, measure in (("accuracy", accuracy), ("margin", margin)):
            found = scores(scored, measure, output)
            means[f"{kind}_{name}"] = round(found.mean, 4)
            intervals[f"{kind}_{name}_low"], intervals[f"{kind}_{name}_high"] = (
                round(bound, 4) for bound in found.interval
            )
    return means, intervals


def main(params: Params, data: Path, model: Path, base: Path, output: Path, summary_out: Path, metrics: Path) -> None:
    """Score the pairs of `data` with the rung; write one row per pair, the summary, and its means to `metrics`."""
    rows, loaded = read_rows(data), load(model, base)
    scored = margins(loaded, rows, data)
    write_rows(output, scored)
    means, interval = summary(scored, output)
    made = made_by(params, data, "pairs", loaded.rung, pairs=len(rows))
    write_json(summary_out, {**means, "interval": interval, "made_by": made})
    write_json(metrics, means)


if __name__ == "__main__":
    run(main)
