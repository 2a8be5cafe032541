"""Evol-Instruct (Xu et al. 2023, WizardLM, arXiv:2304.12244, section 3): instructions become harder, or others, by
being rewritten round after round.

In each round an instruction meets one operation, drawn evenly from those that params.yaml lists: in depth (constrain,
deepen, concretize, reason) or in breadth. An operation is a prompt of its name in prompts/evolve/; the paper's fifth in
depth, a more complicated input, is not among ours. What evolved takes its parent's place in the next round; an
evolution that failed leaves the parent there.

Failed is, by the paper's "elimination evolving": 1. what a judge finds to ask the same as its parent; 2. what the
model itself answers with "sorry" in less than 80 words; 3. or with nothing but stop words and punctuation; 4. what
copies words of the evolving prompt. The rules that cost nothing go first, then the judge, then the answer, which is
used for nothing else: answering is the work of stage generate.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.data.prompt_files import read_lines, read_template
from ladder.data.prompt_templates import GAP, fill
from ladder.eval.ask import Speak
from ladder.inference.local import Answer
from ladder.inference.sampling import Sampling
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, tidy, user
from ladder.synthesis.rouge import words
from ladder.verifiers.reasoning import answer_of

LABELS = ("given prompt", "rewritten prompt", "created prompt", "given instruction", "rewritten instruction",
          "changed instruction", "original instruction", "new instruction")  # fmt: skip
"""What prompts of this kind call their parts; the first three are the paper's."""
COPIED_RUN = 5
"""So many words in a row of an evolving prompt are copied, not met by chance."""
SORRY_WORDS = 80
VERDICT_TOKENS = 16
VERDICT = re.compile(r"\b(same|different)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Evolution:
    """One instruction under one operation; `place` is its lineage."""

    place: int
    parent: Instruction
    origin: Origin
    said: Answer

    @property
    def text(self) -> str:
        return tidy(self.said.text)


def copied(text: str, parent: str, template: str) -> str | None:
    """Words of the evolving prompt that stand in the text and not in its parent (rule 4)."""
    new, old = (f" {' '.join(words(one))} " for one in (text, parent))
    for phrase in (*LABELS, *_runs(template)):
        if f" {phrase} " in new and f" {phrase} " not in old:
            return f"copies {phrase!r}"
    return None


def _runs(template: str) -> list[str]:
    parts = [words(part) for part in GAP.sub("\0", template).split("\0")]
    return [" ".join(part[start : start + COPIED_RUN]) for part in parts for start in range(len(part) - COPIED_RUN + 1)]


def no_gain(verdict: str) -> str | None:
    """Whether the judge leaves the evolution out (rule 1): only a clear DIFFERENT keeps it."""
    found = {word.lower() for word in VERDICT.findall(verdict)}
    if found == {"different"}:
        return None
    return "the judge says SAME" if found == {"same"} else f"no verdict: {verdict[:60]!r}"


def unanswered(answer: str, stop_words: Collection[str]) -> tuple[str, str] | None:
    """(filter, reason) where the answer to the evolution shows that there is none (rules 2 and 3)."""
    said = words(answer)
    if "sorry" in said and len(said) < SORRY_WORDS:
        return "refused", f"answered with 'sorry' in {len(said)} words"
    # An apostrophe parts a word: "don't" is "don" and "t".
    if all(word in stop_words or len(word) == 1 and word.isalpha() for word in said):
        return "answer", f"answered with stop words and punctuation alone: {answer[:60]!r}"
    return None


def evolve(speak: Speak, prompts: Path, seeds: list[Instruction], plan: Plan, operations: list[str]) -> Harvest:
    """Rounds of `batch` evolutions until `count` instructions are made."""
    templates = {name: read_template(prompts / f"{name}.txt", {"instruction"}) for name in operations}
    equal = read_template(prompts / "equal.txt", {"first", "second"})
    stop_words = frozenset(read_lines(prompts / "stop_words.txt"))
    harvest, current = Harvest(plan, seeds), list(seeds)
    for round_ in range(1, plan.rounds + 1):
        evolved = _rewritten(speak, current, plan, round_, operations, templates)
        evolved = [one for one in evolved if _sound(harvest, one, templates[one.origin.operation])]
        evolved = _gaining(speak, harvest, evolved, equal, plan.sampling)
        for one, answer in zip(
            evolved, speak([user(one.text) for one in evolved], plan.drawn(round_, "answer")), strict=True
        ):
            if objection := unanswered(answer.text, stop_words):
                harvest.reject(*objection, one.text, one.origin)
            elif made := harvest.offer(one.said, one.text, one.origin):
                current[one.place] = made
        if harvest.full:
            break
    return harvest


def _rewritten(
    speak: Speak,
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
    replies = speak(requests, plan.drawn(round_, "evolve"))
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
    speak: Speak, harvest: Harvest, evolved: list[Evolution], equal: str, sampling: Sampling
) -> list[Evolution]:
    requests = [user(fill(equal, {"first": one.parent.text, "second": one.text})) for one in evolved]
    greedy = replace(sampling, temperature=0.0, top_p=1.0, max_new_tokens=VERDICT_TOKENS)
    gaining = []
    for one, verdict in zip(evolved, speak(requests, greedy), strict=True):
        if reason := no_gain(answer_of(verdict.text)):
            harvest.reject("no_gain", reason, one.text, one.origin)
        else:
            gaining.append(one)
    return gaining
