"""Pairs from the policy's own samples: chosen meets the prompt's checks, rejected does not.

python -m stages.preferences chat data/prompts.jsonl models/sft/chat models/base data/preferences/chat.jsonl \
    metrics/preferences/chat.json
"""

from collections import defaultdict
from pathlib import Path
from statistics import mean

from ladder.rows import Row, write_json, write_rows
from ladder.run import Refused, run
from ladder.samples import Samples, rates, sample, succeeded


class Params(Samples):
    pairs_per_prompt: int
    """At most so many pairs of one prompt, nearest in length first."""


def words(row: Row) -> int:
    """Length of an answer in words."""
    return len(row["completion"][0]["content"].split())


def pairs(rows: list[Row], per_prompt: int) -> list[Row]:
    """Rows of TRL's preference type. Of a prompt's possible pairs those nearest in length stand first, so that
    length alone does not tell chosen from rejected; a sample stands in one pair at most.

    An answer that was cut before its first word is in none: without a stop token nothing of it is there to reject.
    """
    of_prompt = defaultdict(list)
    for row in rows:
        of_prompt[row["id"]].append(row)
    return [pair for group in of_prompt.values() for pair in _pairs(group)[:per_prompt]]


def _pairs(group: list[Row]) -> list[Row]:
    good = [row for row in group if succeeded(row)]
    bad = [row for row in group if not succeeded(row) and (row["finished"] or words(row))]
    candidates = sorted(
        (abs(words(first) - words(second)), i, j)
        for i, first in enumerate(good)
        for j, second in enumerate(bad)
        if first["completion"] != second["completion"]
    )
    used_good, used_bad, made = set(), set(), []
    for _, i, j in candidates:
        if i not in used_good and j not in used_bad:
            used_good.add(i)
            used_bad.add(j)
            made.append(_pair(good[i], bad[j]))
    return made


def _pair(chosen: Row, rejected: Row) -> Row:
    return {
        "id": chosen["id"],
        "chosen_edited": chosen["edited"],
        "rejected_finished": rejected["finished"],
        "prompt": chosen["prompt"],
        "chosen": chosen["completion"],
        "rejected": rejected["completion"],
    }


def main(params: Params, prompts: Path, model: Path, base: Path, output: Path, metrics: Path) -> None:
    rows = sample(params, prompts, model, base, progress=f"preferences {output.stem}")
    made = pairs(rows, params.pairs_per_prompt)
    if not made:
        raise Refused(
            f"{output}: no prompt has both an answer that meets its checks and one that does not; raise samples"
        )
    write_rows(output, made)
    longer = [len(pair["chosen"][0]["content"].split()) - len(pair["rejected"][0]["content"].split()) for pair in made]
    write_json(metrics, {**rates(rows), "pairs": len(made), "chosen_longer_by_words": round(mean(longer), 1)})


if __name__ == "__main__":
    run(main, named=True)
