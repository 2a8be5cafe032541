"""Prompts with verifiable constraints: everyday tasks with one to three constraints of ladder.verifiers.constraints.

python -m stages.prompts data/seeds data/prompts.jsonl

Each prompt has its own random generator, seeded by its split and number, and draws from the seed lists by position. An
edited seed line changes only the prompts that use it; the size of one split changes no other split.
"""

import random
from pathlib import Path
from typing import Any

from pydantic import Field

from ladder.data.jsonl import Row, write_rows
from ladder.pipeline.stage import Config, UserError, run
from ladder.synthesis.prompt_grammar import Seeds, read_seeds, slots
from ladder.verifiers.constraints import KINDS, parameters


class Count(Config):
    heldout: int = Field(default=0, ge=0)
    """Number of evaluation prompts; no training data is made from them."""
    sft: int = Field(default=0, ge=0)
    """Number of prompts whose verified answers are used in SFT."""
    preferences: int = Field(default=0, ge=0)
    """Number of prompts for preference pairs and rewards."""


class Params(Config):
    count: Count = Count()
    """Number of prompts per split. A task with its topics occurs in one split only."""
    seed: int = 0
    """Seed; another one draws other prompts from the same lines."""
    constraints_max: int = Field(default=3, ge=1, le=3)
    """Maximum number of constraints per prompt, 1 to 3; the minimum is one."""


# A prompt has at most one kind of each group: two would contradict each other, or the edits of one would undo the
# other's.
EXCLUSIVE = (
    {"words_at_least", "words_at_most", "sentences_at_least", "sentences_at_most"},
    {"lowercase", "uppercase", "capitals_at_least", "capitals_at_most", "starts_with", "sections"},
    {"bullets", "numbered_list", "paragraphs", "paragraph_opens_with", "sections", "starts_with"},
    {"bullets", "numbered_list", "paragraphs", "paragraph_opens_with", "sections", "sentences_at_most"},
    {"paragraphs", "paragraph_opens_with", "title"},
    {"paragraphs", "paragraph_opens_with", "postscript"},
    {"quoted", "title", "starts_with"},
    {"postscript", "ends_with"},
    {"includes_words", "repeats_word"},
    {"letter_at_least", "letter_at_most"},
)

# Kinds that can be combined only with the kinds listed.
ONLY_WITH: dict[str, set[str]] = {
    "one_of": set(),
    "json_only": {"words_at_least", "words_at_most", "includes_words", "repeats_word", "avoids_words"},
    "in_language": {"bullets", "numbered_list", "highlights", "no_commas", "quoted", "sentences_at_most"},
    "two_answers": {"title", "no_commas", "lowercase", "uppercase", "includes_words", "avoids_words", "highlights"},
    "repeats_request": {"bullets", "numbered_list", "highlights", "includes_words", "ends_with", "postscript"},
}


def agree(one: str, other: str) -> bool:
    """Whether one prompt may have both kinds."""
    if any({one, other} <= group for group in EXCLUSIVE):
        return False
    return other in ONLY_WITH.get(one, {other}) and one in ONLY_WITH.get(other, {one})


def draw_kinds(chance: random.Random, most: int) -> list[str]:
    """Draw up to `most` kinds of constraints that one prompt may combine."""
    wanted, kinds = chance.randint(1, most), list[str]()
    for kind in chance.sample(list(KINDS), len(KINDS)):
        if len(kinds) < wanted and all(agree(kind, other) for other in kinds):
            kinds.append(kind)
    return kinds


def draw_task(chance: random.Random, lines: list[str], topics: dict[str, list[str]]) -> str:
    """Draw a line and fill its slots; {food2} differs from {food}."""
    line = chance.choice(lines)
    filling: dict[str, str] = {}
    for slot in sorted(slots(line)):
        listed = topics[slot.removesuffix("2")]
        filling[slot] = chance.choice([topic for topic in listed if topic not in filling.values()])
    return line.format(**filling)


def draw_check(chance: random.Random, kind: str, task: str, seeds: Seeds) -> tuple[Row, str]:
    """Draw a check and the sentence that asks for it."""
    check: Row = {"kind": kind}
    for name in parameters(kind):
        check[name] = task if name == "request" else chance.choice(seeds.values[kind][name])
    if kind == "paragraph_opens_with":
        check["paragraph"] = min(check["paragraph"], check["n"])
    shown = {name: _shown(value) for name, value in check.items()}
    return check, chance.choice(seeds.wordings[kind]).format(**shown)


def _shown(value: Any) -> str:
    return ", ".join(f'"{item}"' for item in value) if isinstance(value, list) else str(value)


def draw_prompt(chance: random.Random, seeds: Seeds, most: int) -> tuple[str, str, list[Row]]:
    """Draw a prompt; return the bare task, the whole prompt and its checks."""
    kinds = draw_kinds(chance, most)
    task = draw_task(chance, seeds.questions if "one_of" in kinds else seeds.tasks, seeds.topics)
    drawn = [draw_check(chance, kind, task, seeds) for kind in kinds]
    asked = [sentence for _, sentence in drawn]
    layouts = [f"{task}\n\n{' '.join(asked)}"]
    if "repeats_request" not in kinds:
        layouts += [f"{task} {' '.join(asked)}", f"{task}\n{' '.join(asked)}", f"{' '.join(asked)}\n\n{task}"]
    return task, chance.choice(layouts), [check for check, _ in drawn]


def main(params: Params, seeds: Path, output: Path) -> None:
    """Draw distinct prompts for every split from the lines in `seeds`. Errors: UserError when there are too few."""
    lines = read_seeds(seeds)
    owner: dict[str, str] = {}
    seen: set[str] = set()
    rows: list[Row] = []
    for split, count in params.count.model_dump().items():
        for number in range(count):
            for attempt in range(100):
                chance = random.Random(f"{params.seed} {split} {number} {attempt}")
                task, prompt, checks = draw_prompt(chance, lines, params.constraints_max)
                if prompt not in seen and owner.get(task, split) == split:
                    break
            else:
                raise UserError(
                    f"{seeds}: too few lines for {count} distinct {split} prompts. Add lines, or lower the count."
                )
            seen.add(prompt)
            owner[task] = split
            message = {"role": "user", "content": prompt}
            rows.append({"id": f"{split}-{number:05d}", "split": split, "prompt": [message], "checks": checks})
    write_rows(output, rows)


if __name__ == "__main__":
    run(main)
