"""Evol-Instruct: evolve instructions over several rounds of rewriting.

The method is Xu et al. 2023, WizardLM, arXiv:2304.12244, section 3. In each round, one operation is applied to an
instruction, drawn uniformly from those in params.yaml. In-depth operations are constrain, deepen, concretize and
reason; the other kind is in-breadth. An operation is the prompt of the same name in prompts/evolve/. The paper's fifth
in-depth operation, a more complicated input, is not implemented. A successful evolution replaces its parent in the next
round. After a failed one the parent remains.

An evolution fails by the paper's "elimination evolving" rules:

1. A judge finds that it asks the same as its parent.
2. The model answers it with "sorry" in fewer than 80 words.
3. The model answers it with only stop words and punctuation.
4. It copies words of the evolving prompt.

The rules without a model call are checked first, then the judge, then the answer. The answer is not used otherwise,
because the stage generate produces the answers.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.data.prompt_templates import GAP, fenced, fill, read_lines, read_template
from ladder.inference.types import Answer, Generate, Sampling
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, tidy, user
from ladder.synthesis.rouge import words
from ladder.verifiers.reasoning import answer_of

LABELS = ("given prompt", "rewritten prompt", "created prompt", "given instruction", "rewritten instruction",
          "changed instruction", "original instruction", "new instruction")  # fmt: skip
"""Labels that evolving prompts use for their parts; the first three are the paper's."""
COPIED_RUN = 5
"""Number of consecutive words shared with an evolving prompt that count as copied."""
SORRY_WORDS = 80
VERDICT_TOKENS = 16
VERDICT = re.compile(r"\b(same|different)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Evolution:
    """Result of one operation on one instruction. `place` is the index of its lineage in the current instructions."""

    place: int
    parent: Instruction
    origin: Origin
    said: Answer

    @property
    def text(self) -> str:
        return tidy(self.said.text)


def copied(text: str, parent: str, template: str) -> str | None:
    """Reason if the text copies words of the evolving prompt that its parent does not contain (rule 4), or None."""
    new, old = (f" {' '.join(words(one))} " for one in (text, parent))
    for phrase in (*LABELS, *_runs(template)):
        if f" {phrase} " in new and f" {phrase} " not in old:
            return f"copies {phrase!r}"
    return None


def _runs(template: str) -> list[str]:
    parts = [words(part) for part in GAP.sub("\0", template).split("\0")]
    return [" ".join(part[start : start + COPIED_RUN]) for part in parts for start in range(len(part) - COPIED_RUN + 1)]


def no_gain(verdict: str) -> str | None:
    """Reason if the judge does not see a different request (rule 1); None only for a clear DIFFERENT."""
    found = {word.lower() for word in VERDICT.findall(verdict)}
    if found == {"different"}:
        return None
    return "the judge says SAME" if found == {"same"} else f"no verdict: {verdict[:60]!r}"


def unanswered(answer: str, stop_words: Collection[str]) -> tuple[str, str] | None:
    """(filter, reason) if the answer shows that the evolution has no proper answer (rules 2 and 3); None otherwise."""
    said = words(answer)
    if "sorry" in said and len(said) < SORRY_WORDS:
        return "refused", f"answered with 'sorry' in {len(said)} words"
    # `words` splits at apostrophes: "don't" becomes "don" and "t".
    if all(word in stop_words or len(word) == 1 and word.isalpha() for word in said):
        return "answer", f"answered with stop words and punctuation alone: {answer[:60]!r}"
    return None


def evolve(generate: Generate, prompts: Path, seeds: list[Instruction], plan: Plan, operations: list[str]) -> Harvest:
    """Run rounds of `batch` evolutions until `count` instructions are made or the rounds are used up."""
    templates = {name: read_template(prompts / f"{name}.txt", {"instruction"}) for name in operations}
    equal = read_template(prompts / "equal.txt", {"first", "second"})
    stop_words = frozenset(read_lines(prompts / "stop_words.txt"))
    harvest, current = Harvest(plan, seeds), list(seeds)
    for round_ in range(1, plan.rounds + 1):
        evolved = _rewritten(generate, current, plan, round_, operations, templates)
        evolved = [one for one in evolved if _sound(harvest, one, templates[one.origin.operation])]
        evolved = _gaining(generate, harvest, evolved, equal, plan.sampling)
        for one, answer in zip(
            evolved, generate([user(one.text) for one in evolved], plan.drawn(round_, "answer")), strict=True
        ):
            if objection := unanswered(answer.text, stop_words):
                harvest.reject(*objection, one.text, one.origin)
            elif made := harvest.offer(one.said, one.text, one.origin):
                current[one.place] = made
        if harvest.full:
            break
    return harvest


def _rewritten(
    generate: Generate,
    current: list[Instruction],
    plan: Plan,
    round_: int,
    operations: list[str],
    templates: dict[str, str],
) -> list[Evolution]:
    chance = plan.chance(round_)
    places = sorted(chance.sample(range(len(current)), min(plan.batch, len(current))))
    drawn = [chance.choice(operations) for _ in places]
    requests = [
        user(fill(templates[name], {"instruction": current[place].text}))
        for place, name in zip(places, drawn, strict=True)
    ]
    replies = generate(requests, plan.drawn(round_, "evolve"))
    return [
        Evolution(place, current[place], Origin(name, round_, [current[place].id], {}), said)
        for place, name, said in zip(places, drawn, replies, strict=True)
    ]


def _sound(harvest: Harvest, one: Evolution, template: str) -> bool:
    objection = harvest.objection(one.said, one.text)
    if objection is None and (reason := copied(one.text, one.parent.text, template)):
        objection = ("copied", reason)
    if objection:
        harvest.reject(*objection, one.text, one.origin)
    return objection is None


def _gaining(
    generate: Generate, harvest: Harvest, evolved: list[Evolution], equal: str, sampling: Sampling
) -> list[Evolution]:
    requests = [
        user(fill(equal, {"first": fenced(one.parent.text, "first"), "second": fenced(one.text, "second")}))
        for one in evolved
    ]
    greedy = replace(sampling, temperature=0.0, top_p=1.0, max_new_tokens=VERDICT_TOKENS)
    gaining = []
    for one, verdict in zip(evolved, generate(requests, greedy), strict=True):
        if reason := no_gain(answer_of(verdict.text)):
            harvest.reject("no_gain", reason, one.text, one.origin)
        else:
            gaining.append(one)
    return gaining
