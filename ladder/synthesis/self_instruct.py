"""Self-Instruct (Wang et al. 2023, arXiv:2212.10560, section 2.2, steps 1 and 4): a pool of instructions grows by
what a model adds when it is shown some of them.

Each request shows eight of the pool, six that people wrote and two that the model did, and what comes back enters the
pool if it is unlike all that is there (ROUGE-L below `novelty`, in the paper 0.7). The instructions shown are turns of
a conversation, where the paper continues a list: a chat model then writes one more instead of copying the list. A
reply that is a numbered list counts as its entries, so that prompts/self_instruct/next.txt may ask for several.

Left out: whether a task is a classification, and inputs made before or after the output (steps 2 and 3): an
instruction here carries its input with it, and answering is the work of stage generate. Of the published code's rules
also those against first characters that are punctuation or not ASCII, and against "Write a program".
"""

import random
import re
from pathlib import Path

from ladder.chat.encode import Messages
from ladder.data.prompt_files import read_lines, read_template
from ladder.eval.ask import Speak
from ladder.inference.local import Answer
from ladder.pipeline.stage import UserError
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, tidy
from ladder.synthesis.rouge import words

SHOWN, OF_MACHINE = 8, 2
ENTRY = re.compile(r"^[ \t]*\d+[.)][ \t]+", re.MULTILINE)


def entries(said: Answer) -> list[str]:
    """The entries of a reply that is a numbered list, else the reply; of a list that was cut the last one goes."""
    text = said.text.strip()
    if not ENTRY.match(text):
        return [tidy(text)]
    found = [tidy(entry) for entry in ENTRY.split(text)[1:]]
    return found if said.finished else found[:-1]


def shown(chance: random.Random, human: list[Instruction], machine: list[Instruction]) -> list[Instruction]:
    """Eight of the pool in random order, two of the machine's where it has made so many."""
    drawn = chance.sample(machine, min(OF_MACHINE, len(machine)))
    drawn += chance.sample(human, SHOWN - len(drawn))
    chance.shuffle(drawn)
    return drawn


def conversation(examples: list[Instruction], ask: str, following: str) -> Messages:
    """Each example is the assistant's answer to `ask`; `following` asks for the next."""
    turns: Messages = []
    for example in examples:
        turns += [{"role": "user", "content": ask}, {"role": "assistant", "content": example.text}]
    return [*turns, {"role": "user", "content": following}]


def unusable(text: str, blocked: list[str]) -> str | None:
    """Why a text model cannot do the task: it names what only eyes or hands can (section 2.2; the words are a file)."""
    run = f" {' '.join(words(text))} "
    found = [phrase for phrase in blocked if f" {' '.join(words(phrase))} " in run]
    return f"names {found[0]!r}" if found else None


def self_instruct(speak: Speak, prompts: Path, seeds: list[Instruction], plan: Plan) -> Harvest:
    """Rounds of `batch` requests until `count` instructions are made. Errors: UserError for fewer than eight seeds."""
    ask, following = (read_template(prompts / name, set()) for name in ("ask.txt", "next.txt"))
    blocked = read_lines(prompts / "blocked.txt")
    if len(seeds) < SHOWN:
        raise UserError(f"synthesize.{plan.name}: {len(seeds)} seeds; a request shows {SHOWN}, so give that many")
    harvest, machine = Harvest(plan, seeds), list[Instruction]()
    for round_ in range(1, plan.rounds + 1):
        chance = plan.chance(round_)
        examples = [shown(chance, seeds, machine) for _ in range(plan.batch)]
        conversations = [conversation(drawn, ask, following) for drawn in examples]
        for drawn, said in zip(examples, speak(conversations, plan.drawn(round_, "instruct")), strict=True):
            origin = Origin("instruct", round_, [example.id for example in drawn], {})
            machine += _kept(harvest, said, origin, blocked)
        if harvest.full:
            break
    return harvest


def _kept(harvest: Harvest, said: Answer, origin: Origin, blocked: list[str]) -> list[Instruction]:
    found = entries(said)
    # A list that was cut has lost its cut entry: the others ended.
    whole = said if found == [tidy(said.text)] else Answer(said.text, said.tokens, finished=True)
    kept = []
    for text in found:
        if reason := unusable(text, blocked):
            harvest.reject("blocked", reason, text, origin)
        elif made := harvest.offer(whole, text, origin):
            kept.append(made)
    return kept
