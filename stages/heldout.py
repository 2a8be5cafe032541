"""Held-out evaluation of a rung's skills: its answers to prompts it was not trained on, verified by their checks.

The pass rate counts answers that meet all checks, whether or not they ended by themselves; the finish rate counts those
that did. One process answers every set of prompts that is not current (ladder/data/cells.py).

python -m stages.heldout code/heldout.txt data/heldout_prompts models/sft/maths models/base \
    data/heldout/sft/maths data/heldout.cells/sft/maths.json metrics/heldout/sft/maths
"""

import json
from pathlib import Path

from pydantic import Field

from ladder.data.cells import Cells, file_hash, modules_hash, versions_of
from ladder.data.jsonl import Row, write_json, write_rows
from ladder.eval.measures import MEASURES, made_by, scores
from ladder.inference.engines import RungSettings, open_engine
from ladder.models.rung import Rung, read_rung
from ladder.pipeline.stage import Config, UserError, run
from ladder.synthesis.rejection_sampling import Draws, asked, judged, repeated
from ladder.verifiers.reasoning import unfinished

METRICS = {"pass_rate": "pass", "reward": "reward", "finish_rate": "finish", "tokens": "tokens"}


class Entry(Draws, RungSettings):
    """How the prompts of a set are answered: alike by every rung, so that rungs compare prompt by prompt."""


class Params(Config, extra="allow"):
    """An entry for each set. Its name is that of the prompts: `problems/maths-heldout` is
    data/problems/maths-heldout.jsonl."""

    __pydantic_extra__: dict[str, Entry] = Field(init=False)

    @property
    def entries(self) -> dict[str, Entry]:
        return self.__pydantic_extra__


def summary(rows: list[Row], output: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return means (rates in percent, tokens), and their 95% intervals as `<name>_low` and `<name>_high`."""
    means, intervals = {}, {}
    for name, measure in METRICS.items():
        found = scores(rows, MEASURES["heldout"][measure], output)
        means[name] = round(found.mean, 2)
        intervals[f"{name}_low"], intervals[f"{name}_high"] = (round(bound, 2) for bound in found.interval)
    return means, intervals


def answer(entry: Entry, prompts: Path, rung: Rung, model: Path, base: Path, output: Path) -> tuple[list[Row], Row]:
    """Sample answers to a set of prompts and verify them. Returns the rows, and the summary.

    Errors: UserError for a prompt without checks.
    """
    chosen = asked(entry, prompts)
    for number, row in enumerate(chosen, start=1):
        if not row["checks"]:
            raise UserError(f"{prompts}: prompt {number}: no check; expected at least one to verify its answers")
    engine = open_engine(entry.of_rung(rung.rung), model, base)
    answers = engine.generate(repeated(chosen, entry.samples), entry.sampling, progress=f"heldout {rung.rung}")
    rows = list(judged(chosen, answers, entry.samples, edits=False))
    means, interval = summary(rows, output)
    counts = {"asked": len(chosen)}
    if cut := sum(unfinished(row["completion"][0]["content"]) for row in rows):
        counts["unfinished_reasoning"] = cut
    made = made_by(entry, prompts, "prompts", rung, **counts)
    return rows, {**means, "interval": interval, "made_by": made}


def main(
    params: Params, code: Path, prompts: Path, model: Path, base: Path, output: Path, cells_out: Path, metrics: Path
) -> None:
    """Answer every set of prompts that is not current, and remove those without an entry.

    code: the stage's code list. prompts: folder of the sets. Each set has its rows in <set>.jsonl and its summary in
    <set>.json of `output`, and the summary's means in <set>.json of `metrics`. cells_out: records of ladder.data.cells.
    """
    cells, rung = Cells(cells_out, [output, metrics]), read_rung(model)
    shared = {
        "code": modules_hash(code),
        "rung": rung.identity,
        "base": read_rung(base).identity,
        **versions_of("torch", "transformers"),
    }
    for name, entry in params.entries.items():
        asked_file, files = prompts / f"{name}.jsonl", [output / f"{name}.jsonl", output / f"{name}.json"]
        files.append(metrics / f"{name}.json")
        settings = json.dumps(entry.model_dump(), sort_keys=True)
        made_of = {**shared, "entry": settings, "prompts": file_hash(asked_file)}
        if why := cells.outdated(name, made_of, files):
            print(f"{name}: answering ({why})", flush=True)
            rows, made = answer(entry, asked_file, rung, model, base, files[0])
            cells.forget(name)
            write_rows(files[0], rows)
            write_json(files[1], made)
            write_json(files[2], {measure: made[measure] for measure in METRICS})
            cells.record(name, made_of, files)
    cells.finish()


if __name__ == "__main__":
    run(main)
