"""Post-processing of preference pairs: minimum margin, length balance, and a validation split by prompt.

A pair is a row of TRL's preference type, `prompt, chosen, rejected`. If its answers were scored, it also has the
columns of ladder.data.turns.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.data.turns import SCORES, scores
from ladder.pipeline.stage import Config, UserError


class Controls(Config):
    """What pairs are held to, wherever they come from."""

    margin: float | None = Field(default=None, ge=0)
    """Minimum difference of a pair's scores. Pairs with equal scores are always dropped."""
    max_longer: float | None = Field(default=None, ge=0, le=1)
    """Maximum share of pairs whose chosen answer has more words than the rejected one; null drops none.

    At 0.5, which answer is longer carries no information about which is chosen. The size of the difference may still
    carry some (the metrics report the mean difference). Excess pairs are dropped and counted as `dropped_longer`.
    """
    validation: float = Field(default=0.0, ge=0, lt=1)
    """Share of prompts whose pairs go to the validation file.

    The side of a prompt depends on its hash only, so it is the same in every file of pairs.
    """


def words(answer: Messages) -> int:
    """Length of an answer in words."""
    return sum(len(message["content"].split()) for message in answer)


def longer(pair: Row) -> int:
    """Number of words by which the chosen answer is longer; negative if it is shorter."""
    return words(pair["chosen"]) - words(pair["rejected"])


def prompt_key(pair: Row) -> str:
    """sha256 of the prompt's roles and texts, ignoring case and whitespace so that near copies get the same side."""
    said = [[message["role"], " ".join(message["content"].lower().split())] for message in pair["prompt"]]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def check_pair(row: Row, where: str) -> Row:
    """Validate a pair: `prompt` as messages, `chosen` and `rejected` as assistant answers, numeric scores.

    Errors: UserError naming the location and the column.
    """
    for name in ("prompt", "chosen", "rejected"):
        messages = row.get(name)
        good = isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)
        if not good or not all(isinstance(message.get("content"), str) for message in messages or []):
            raise UserError(f"{where}: {name}: expected a list of messages with texts, got {messages!r:.100}")
        roles = [message.get("role") for message in messages or []]
        if name != "prompt" and ({roles[0], roles[-1]} != {"assistant"} or "user" in roles):
            raise UserError(f"{where}: {name}: expected one message of the assistant. Move earlier turns to prompt.")
    try:
        scores(row)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return row


def fault(pair: Row, margin: float | None, where: str) -> str | None:
    """Reason to drop a pair, or None.

    Reasons: `identical` answers; `several_turns` (an assistant that calls a tool and continues); `equal` or `reversed`
    scores; a score difference `below_margin`. A pair without scores is checked by its answers only.

    Errors: UserError when `margin` is set and the pair has no scores.
    """
    if pair["chosen"] == pair["rejected"]:
        return "identical"
    if len(pair["chosen"]) > 1 or len(pair["rejected"]) > 1:
        return "several_turns"
    if (scored := scores(pair)) is None:
        if margin is not None:
            got = tuple(pair.get(name) for name in SCORES)
            raise UserError(f"{where}: margin {margin:g} needs score_chosen and score_rejected, got {got}")
        return None
    difference = scored[0] - scored[1]
    if difference <= 0:
        return "reversed" if difference < 0 else "equal"
    return "below_margin" if difference < (margin or 0) - 1e-9 else None  # 0.3 - 0.2 rounds to less than 0.1


def assigned(pairs: Iterable[Row], controls: Controls, seed: int) -> list[str]:
    """Label of each pair: `train`, `validation`, or the reason to drop it (`fault`, or `longer`).

    Each side is balanced separately: pairs with a longer chosen answer are dropped until their share is at most
    `max_longer`. A hash of seed and pair selects them, so adding a pair changes as few other labels as possible.
    """
    labels: list[str] = []
    long: dict[str, list[tuple[bytes, int]]] = {"train": [], "validation": []}
    for number, pair in enumerate(pairs):
        label = fault(pair, controls.margin, f"pair {number + 1}") or side(pair, controls.validation)
        labels.append(label)
        if label in long and longer(pair) > 0:
            long[label].append((_draw(pair, seed), number))
    most = 1.0 if controls.max_longer is None else controls.max_longer
    for name, drawn in long.items():
        if most < 1:
            room = int(most * (labels.count(name) - len(drawn)) / (1 - most) + 1e-9)
            for _, number in sorted(drawn)[room:]:
                labels[number] = "longer"
    return labels


def _draw(pair: Row, seed: int) -> bytes:
    content = json.dumps([seed, pair["prompt"], pair["chosen"], pair["rejected"]], sort_keys=True)
    return hashlib.sha256(content.encode()).digest()[:16]


def side(pair: Row, validation: float) -> str:
    """`validation` for that share of all prompts, else `train`. All pairs of a prompt are on the same side."""
    return "validation" if int(prompt_key(pair)[:16], 16) < validation * 2**64 else "train"


def labeled(pairs: Iterable[Row], labels: list[str], label: str) -> Iterator[Row]:
    """Pairs with one label."""
    return (pair for pair, given in zip(pairs, labels, strict=True) if given == label)


def check_apart(train: Iterable[Row], validation: Iterable[Row], where: str) -> None:
    """Refuse validation pairs whose prompt is in the training pairs, ignoring case and whitespace.

    Errors: UserError naming the row.
    """
    seen = {prompt_key(pair) for pair in train}
    for number, pair in enumerate(validation, start=1):
        if prompt_key(pair) in seen:
            raise UserError(
                f"{where}: row {number}: expected a prompt that is not in the training set, got "
                f"{pair['prompt'][-1]['content'][:80]!r}"
            )


def lengths(pairs: Iterable[Row]) -> dict[str, float]:
    """Length difference of the pairs: mean of chosen minus rejected in words, and percent with a longer chosen answer.

    The data card states the mean with its interval.
    """
    differences = [longer(pair) for pair in pairs]
    return {
        "chosen_longer_by_words": round(sum(differences) / len(differences), 1),
        "chosen_longer_percent": round(100 * sum(one > 0 for one in differences) / len(differences), 1),
    }


def controlled(pairs: Iterable[Row], controls: Controls, seed: int, output: Path) -> tuple[list[str], dict[str, float]]:
    """Label the pairs (iterated several times) and compute the metrics. Returns (labels, metrics).

    Errors: UserError naming the output when a requested side would be empty.
    """
    labels = assigned(pairs, controls, seed)
    counts = Counter(labels)
    train, validation, dropped = counts.pop("train", 0), counts.pop("validation", 0), dict(sorted(counts.items()))
    if not train or (controls.validation > 0 and not validation):
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items()) or "none dropped"
        raise UserError(
            f"{output}: none of {len(labels)} pairs is left for {'validation' if train else 'training'} ({reasons}). "
            "Use more pairs, a lower margin, or another share of validation."
        )
    held = labeled(pairs, labels, "validation")
    check_apart(labeled(pairs, labels, "train"), held, f"{output}: validation")
    return labels, {
        "pairs": train,
        **lengths(labeled(pairs, labels, "train")),
        **({"validation_pairs": validation} if controls.validation else {}),
        **{f"dropped_{reason}": count for reason, count in dropped.items()},
    }
