"""Grammar of arithmetic word problems, read from a file of seeds: situations with wordings, numbers and steps."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ladder.pipeline.stage import Config, UserError, fit, read_yaml
from ladder.synthesis.prompt_grammar import slots

Numbers = dict[str, int]
LARGEST = 999
_SUM = re.compile(r"(\w+) ([-+*/]) (\w+)")


class Step(Config):
    name: str
    """Name of the result, for later steps."""
    value: str
    """One operation: `a * b`, `cost + 2`. Each operand is the name of a number, an earlier result or a literal."""
    says: str
    """Sentence that introduces the calculation in the solution."""


class Situation(Config):
    asks: list[str] = Field(min_length=1)
    """Wordings of the problem, each with all its numbers."""
    numbers: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]]
    """Name of each number, with its minimum and maximum."""
    steps: list[Step] = Field(min_length=1)
    """Solution steps in order; the last one gives the answer."""


class Grammar(Config):
    instruction: str
    """Answer instructions at the end of every prompt."""
    words: dict[str, list[str]]
    """Slot → words that fill it. A slot that ends in 2 or 3 draws another word from the same list."""
    situations: dict[str, Situation] = Field(min_length=1)


def read_grammar(path: Path) -> Grammar:
    """Read and validate a grammar. Errors: UserError naming the file, the situation, and the invalid slot or step."""
    grammar = fit(Grammar, read_yaml(path), str(path))
    words = {name for slot in grammar.words for name in (slot, f"{slot}2", f"{slot}3")}
    for name, situation in grammar.situations.items():
        known = set(situation.numbers)
        for number, ask in enumerate(situation.asks, start=1):
            where = f"{path}: situations.{name}.asks: line {number}"
            _slots(ask, known | words, where)
            if missing := sorted(known - slots(ask)):
                raise UserError(f"{where}: expected the number {missing[0]} in it, got {ask!r}")
        for step in situation.steps:
            where = f"{path}: situations.{name}.steps: {step.name}"
            parts = _SUM.fullmatch(step.value)
            if not parts or not all(side in known or side.isdecimal() for side in (parts[1], parts[3])):
                raise UserError(f"{where}: expected one of + - * / between two of {sorted(known)}, got {step.value!r}")
            _slots(step.says, words, where)
            known.add(step.name)
    return grammar


def _slots(text: str, known: set[str], where: str) -> None:
    try:
        unknown = sorted(slots(text) - known)
    except ValueError as error:
        raise UserError(f"{where}: {error} in {text!r}") from None
    if unknown:
        raise UserError(f"{where}: no such slot {unknown[0]} in {text!r}")


def solved(situation: Situation, numbers: Numbers) -> Numbers | None:
    """Compute all steps: the numbers and results, or None unless every result is a whole number from 1 to LARGEST."""
    values = dict(numbers)
    for step in situation.steps:
        left, operation, right = operands(step, values)
        if operation == "/" and (right == 0 or left % right):
            return None
        value = {"+": left + right, "-": left - right, "*": left * right, "/": left // (right or 1)}[operation]
        if not 1 <= value <= LARGEST:
            return None
        values[step.name] = value
    return values


def operands(step: Step, values: Numbers) -> tuple[int, str, int]:
    """(left, operation, right) of a step."""
    left, operation, right = step.value.split()
    return _operand(left, values), operation, _operand(right, values)


def _operand(side: str, values: Numbers) -> int:
    return values[side] if side in values else int(side)


def instances(situation: Situation) -> Iterator[Numbers]:
    """All number assignments with whole results in range."""
    ranges = [range(least, most + 1) for least, most in situation.numbers.values()]
    for chosen in itertools.product(*ranges):
        numbers = dict(zip(situation.numbers, chosen, strict=True))
        if solved(situation, numbers):
            yield numbers


def verbalized(grammar: Grammar, situation: Situation, numbers: Numbers, chance: random.Random) -> tuple[str, str, int]:
    """Render one instance with random wordings: (question, solution, answer).

    Errors: ValueError for numbers without a solution in range.
    """
    values = solved(situation, numbers)
    if values is None:
        raise ValueError(f"{numbers} have no solution in whole numbers")
    ask = chance.choice(situation.asks)
    filling: dict[str, str] = {}
    for slot in sorted(slots(ask).union(*(slots(step.says) for step in situation.steps)) - set(numbers)):
        words = grammar.words[slot.rstrip("23")]
        filling[slot] = chance.choice([word for word in words if word not in filling.values()])
    lines = []
    for step in situation.steps:
        left, operation, right = operands(step, values)
        lines.append(f"{step.says.format(**filling)} {left} {operation} {right} = {values[step.name]}.")
    answer = values[situation.steps[-1].name]
    question = ask.format(**filling, **numbers)
    return f"{question[0].upper()}{question[1:]} {grammar.instruction}", "\n".join([*lines, f"#### {answer}"]), answer
