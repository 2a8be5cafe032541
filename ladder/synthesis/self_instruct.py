"""Self-Instruct: grow a pool of instructions with a model that sees some of them as examples.

The method is Wang et al. 2023, arXiv:2212.10560, section 2.2, steps 1 and 4. Each request shows eight instructions of
the pool: six by people and two by the model. A new instruction enters the pool if it is unlike all others (ROUGE-L
below `novelty`; 0.7 in the paper). The examples are turns of a conversation, where the paper continues a list. A chat
model then writes one more instruction instead of copying the list. A reply in the form of a numbered list counts as its
entries, so prompts/self_instruct/next.txt may request several.

Steps 2 and 3 are omitted: classification tasks, and inputs generated before or after the output. An instruction here
includes its input, and the stage generate produces answers. Two rules of the published code are omitted too: those
against a first character that is punctuation or not ASCII, and against "Write a program".
"""

import random
import re
from pathlib import Path

from ladder.chat.encode import Messages
from ladder.data.prompt_templates import read_lines, read_template
from ladder.inference.types import Answer, Generate
from ladder.pipeline.stage import UserError
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, tidy
from ladder.synthesis.rouge import words

SHOWN, OF_MACHINE = 8, 2
ENTRY = re.compile(r"^[ \t]*\d+[.)][ \t]+", re.MULTILINE)


def entries(said: Answer) -> list[str]:
    """Entries of a numbered list, or else the whole reply. The last entry of a truncated list is dropped."""
    text = said.text.strip()
    if not ENTRY.match(text):
        return [tidy(text)]
    found = [tidy(entry) for entry in ENTRY.split(text)[1:]]
    return found if said.finished else found[:-1]


def shown(chance: random.Random, human: list[Instruction], machine: list[Instruction]) -> list[Instruction]:
    """Draw eight instructions in random order, two of them by the model if it has made as many."""
    drawn = chance.sample(machine, min(OF_MACHINE, len(machine)))
    drawn += chance.sample(human, SHOWN - len(drawn))
    chance.shuffle(drawn)
    return drawn


def conversation(examples: list[Instruction], ask: str, following: str) -> Messages:
    """Conversation in which each example is the assistant's answer to `ask`; `following` requests the next one."""
    turns: Messages = []
    for example in examples:
        turns += [{"role": "user", "content": ask}, {"role": "assistant", "content": example.text}]
    return [*turns, {"role": "user", "content": following}]


def unusable(text: str, blocked: list[str]) -> str | None:
    """Reason why a text model cannot do the task: it names something that needs eyes or hands. None if it can.

    The blocked phrases come from a file (section 2.2).
    """
    run = f" {' '.join(words(text))} "
    found = [phrase for phrase in blocked if f" {' '.join(words(phrase))} " in run]
    return f"names {found[0]!r}" if found else None


def self_instruct(generate: Generate, prompts: Path, seeds: list[Instruction], plan: Plan) -> Harvest:
    """Run rounds of `batch` requests until `count` instructions are made. Errors: UserError for under eight seeds."""
    ask, following = (read_template(prompts / name, set()) for name in ("ask.txt", "next.txt"))
    blocked = read_lines(prompts / "blocked.txt")
    if len(seeds) < SHOWN:
        raise UserError(
            f"synthesize.{plan.name}: seeds: expected at least {SHOWN}, the number per request, got {len(seeds)}"
        )
    harvest, machine = Harvest(plan, seeds), list[Instruction]()
    for round_ in range(1, plan.rounds + 1):
        chance = plan.chance(round_)
        examples = [shown(chance, seeds, machine) for _ in range(plan.batch)]
        conversations = [conversation(drawn, ask, following) for drawn in examples]
        for drawn, said in zip(examples, generate(conversations, plan.drawn(round_, "instruct")), strict=True):
            origin = Origin("instruct", round_, [example.id for example in drawn], {})
            machine += _kept(harvest, said, origin, blocked)
        if harvest.full:
            break
    return harvest


def _kept(harvest: Harvest, said: Answer, origin: Origin, blocked: list[str]) -> list[Instruction]:
    found = entries(said)
    # A truncated list lost only its last entry; the others are complete.
    whole = said if found == [tidy(said.text)] else Answer(said.text, said.tokens, finished=True)
    kept = []
    for text in found:
        if reason := unusable(text, blocked):
            harvest.reject("blocked", reason, text, origin)
        elif made := harvest.offer(whole, text, origin):
            kept.append(made)
    return kept
