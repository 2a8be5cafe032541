"""Log-probabilities of a file of pairs under the reference model, once: no sweep of beta or lr computes them again.

python -m stages.reference chat data/preferences/chat.jsonl models/sft/chat models/base data/reference/chat.jsonl
"""

from pathlib import Path

from ladder.context import report, within
from ladder.likelihood import completion_logps
from ladder.models import load
from ladder.pairs import all_pair_tokens, fits
from ladder.rows import read_rows, write_rows
from ladder.run import Refused, Section, run


class Params(Section):
    model: str
    """The reference: the rung that preference tuning starts from."""
    data: str
    """The pairs: `preferences/chat`."""


def main(params: Params, data: Path, model: Path, base: Path, output: Path) -> None:
    rows, reference = read_rows(data), load(model, base)
    pairs, limit = all_pair_tokens(reference.tokenizer, rows, data), within(None, reference.model)
    inside = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if fits(pair, limit)]
    if not inside:
        raise Refused(f"{data}: none of {len(rows)} pairs fits the reference's context of {limit} tokens")
    report("reference", too_long=len(rows) - len(inside))
    rows, pairs = [row for row, _ in inside], [pair for _, pair in inside]
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
