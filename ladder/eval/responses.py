"""Match rows of answers to a benchmark's questions, whether they were generated here or elsewhere.

A row has a `response` and names its question by `key` or by `prompt`, the question's exact text; if it has both, they
must not contradict each other. `sample` and `turn` count from 0 and are needed when there are several. `tokens` and
`finished` are optional.
"""

import difflib
from typing import Any, NamedTuple

from ladder.data.jsonl import Row, column
from ladder.data.wording import words
from ladder.eval.benchmark import Answers, Question, key_text
from ladder.pipeline.stage import UserError

NEAR = 0.9
"""Minimum similarity (difflib's ratio) of two prompts that differ only in wording."""
RELATED = 0.5
"""Minimum similarity of a row's prompt to the question that its key names."""
SHORT = 40
"""Maximum length, in characters, of a text that is also compared by characters."""


class Place(NamedTuple):
    """Question, sample and turn that a row answers."""

    key: str
    sample: int
    turn: int


class Read(NamedTuple):
    answers: list[Answers]
    """In the order of their first row."""
    reworded: list[int]
    """Numbers, from 1, of the rows whose prompt is worded differently from the question they answer."""


def read_answers(questions: list[Question], rows: list[Row], file: Any, foreign: list[int] | None = None) -> Read:
    """Match rows to questions; return the answers to each question that has some.

    A row may have no key and a prompt that is no question's exact text. It is matched to the question with nearly the
    same wording, if there is exactly one and no row has that question's exact text.
    file: name of the rows in error messages. foreign: receives the numbers of the rows that answer no question, which
    are then skipped.
    Errors: UserError naming the row that answers no question or a question already answered, the row whose key and
    prompt contradict each other, and the question with a missing turn; and when no row answers a question.
    """
    column(rows, "response", str, file)
    index = _Index(questions, {text for row in rows if (text := _prompt(row)) is not None})
    found: dict[Place, int] = {}
    contradictions: list[tuple[int, str]] = []
    for number, row in enumerate(rows, start=1):
        try:
            place = index.place(row, f"{file}: row {number}")
        except Foreign as error:
            if foreign is None:
                raise UserError(f"{error}. --skip-foreign leaves these rows out.") from None
            foreign.append(number)
            continue
        if why := index.contradiction(row, place):
            contradictions.append((number, why))
        if place in found:
            raise UserError(
                f"{file}: row {number}: key {place.key!r} is already answered in row {found[place]}. "
                'Number several answers to one question under "sample": 0, 1, …'
            )
        found[place] = number
    if contradictions:
        number, why = contradictions[0]
        raise UserError(
            f"{file}: row {number}: its key and its prompt contradict each other: {why}. {len(contradictions)} of "
            f"{len(rows)} rows do. Correct the keys, or drop the column `key` to match rows by prompt."
        )
    if not found:
        raise UserError(f"{file}: none of its {len(rows)} rows answers a question of the benchmark")
    samples: dict[str, dict[int, dict[int, Row]]] = {}
    for place, number in found.items():
        samples.setdefault(place.key, {}).setdefault(place.sample, {})[place.turn] = rows[number - 1]
    for key, of_key in samples.items():
        expected = len(index.by_key[key].turns)
        for sample, turns in of_key.items():
            if len(turns) != expected:
                raise UserError(
                    f"{file}: key {key!r}, sample {sample}: expected an answer to each of its {expected} turns, "
                    f"got {len(turns)}"
                )
    others = [
        number
        for place, number in found.items()
        if _prompt(rows[number - 1]) not in (None, index.by_key[place.key].turns[place.turn])
    ]
    return Read([_answers(key, samples[key]) for key in samples], others)


def missing(questions: list[Question], answers: list[Answers]) -> list[str]:
    """Return the keys of the questions without an answer."""
    answered = {answer.key for answer in answers}
    return [question.key for question in questions if question.key not in answered]


class Foreign(UserError):
    """A row that answers no question of the benchmark."""


class _Index:
    """Index of a benchmark's questions by key and by the text of each turn. given: the prompts of the rows."""

    def __init__(self, questions: list[Question], given: set[str]) -> None:
        self.by_key = {question.key: question for question in questions}
        self.by_prompt: dict[str, list[tuple[str, int]]] = {}
        for question in questions:
            for turn, text in enumerate(question.turns):
                self.by_prompt.setdefault(text, []).append((question.key, turn))
        self.by_words: dict[str, list[str]] = {}
        for text, places in self.by_prompt.items():
            self.by_words.setdefault(_plain(text), []).extend(key for key, _ in places)
        self.free = [text for text in self.by_prompt if text not in given]

    def place(self, row: Row, where: str) -> Place:
        """Return what a row answers. Errors: UserError."""
        sample, turn = _count(row, "sample", where), _count(row, "turn", where)
        if "key" in row:
            key = key_text(row["key"])
            if key not in self.by_key:
                raise Foreign(f"{where}: key {row['key']!r}: no such question in the benchmark")
        elif (prompt := _prompt(row)) is not None:
            key, turn = self.asked(prompt, where)
        else:
            raise UserError(f'{where}: expected a "key" or a "prompt" to identify the question')
        if turn >= len(self.by_key[key].turns):
            raise UserError(f"{where}: turn {turn}: key {key!r} has turns 0 to {len(self.by_key[key].turns) - 1}")
        return Place(key, sample, turn)

    def asked(self, prompt: str, where: str) -> tuple[str, int]:
        """Return key and turn of a prompt. Errors: UserError when no question, or more than one, has this prompt."""
        near = [] if prompt in self.by_prompt else difflib.get_close_matches(prompt, self.free, n=2, cutoff=NEAR)
        places = [place for text in near or [prompt] for place in self.by_prompt.get(text, [])]
        if len(places) != 1:
            problem = f"it belongs to {len(places)} questions" if places else "it is not in the benchmark"
            kind = UserError if places else Foreign
            raise kind(f'{where}: its prompt does not identify the question: {problem}. Add a "key"')
        return places[0]

    def contradiction(self, row: Row, place: Place) -> str:
        """Explain why the prompt of a row contradicts its key; empty when it does not.

        A prompt may be worded differently from the question, and may hold more, for example a template around it. It
        contradicts the key when it is the text of another question, or shares few words with its own.
        """
        prompt = _prompt(row)
        if "key" not in row or prompt is None:
            return ""
        said, own = _plain(prompt), _plain(self.by_key[place.key].turns[place.turn])
        if said == own:
            return ""
        if others := self.by_words.get(said):
            return f"the prompt belongs to key {others[0]!r}, not to key {place.key!r}"
        if (own and own in said) or (said and said in own) or _alike(said, own) >= RELATED:
            return ""
        return f"the prompt {prompt[:60]!r} does not belong to key {place.key!r}"


def _prompt(row: Row) -> str | None:
    """Return the prompt of a row: a text, or the last user message of a list."""
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        users = [one for one in prompt if isinstance(one, dict) and one.get("role") == "user"]
        prompt = users[-1].get("content") if users else None
    return prompt if isinstance(prompt, str) else None


def _plain(text: str) -> str:
    """Normalize a text to its words."""
    return " ".join(words(text)) or text.strip()


def _alike(one: str, other: str) -> float:
    """Return difflib's ratio by words; for short texts the maximum with the ratio by characters."""
    ratio = difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()
    short = max(len(one), len(other)) <= SHORT
    return max(ratio, difflib.SequenceMatcher(None, one, other).ratio()) if short else ratio


def _count(row: Row, name: str, where: str) -> int:
    value = row.get(name, 0)
    if type(value) is not int or value < 0:
        raise UserError(f"{where}: {name}: expected a whole number of 0 or more, got {value!r}")
    return value


def _answers(key: str, samples: dict[int, dict[int, Row]]) -> Answers:
    """Build the answers to one question from {sample: {turn: row}}."""
    ordered = [[turns[turn] for turn in sorted(turns)] for _, turns in sorted(samples.items())]
    rows = [row for turns in ordered for row in turns]
    tokens = tuple(sum(row["tokens"] for row in turns) for turns in ordered) if _all_have(rows, "tokens") else ()
    finished = tuple(all(row["finished"] for row in turns) for turns in ordered) if _all_have(rows, "finished") else ()
    return Answers(key, tuple(tuple(row["response"] for row in turns) for turns in ordered), tokens, finished)


def _all_have(rows: list[Row], name: str) -> bool:
    return all(name in row for row in rows)
