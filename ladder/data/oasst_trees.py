"""Reader for Open Assistant conversation trees (Köpf et al. 2023).

A tree is a prompt with replies, which have replies in turn. Annotators ranked the assistant's replies to the same
prompt; rank 0 is the best. A row is either a whole tree, or one message with the id of its parent.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.data.readers import Record
from ladder.pipeline.errors import InvalidRow

ROLES = {"prompter": "user", "assistant": "assistant"}
MESSAGE = {"message_id", "parent_id", "text", "role"}
NODE = (*sorted(MESSAGE), "rank", "deleted", "review_result")
"""Fields kept in memory for a message that is not a root."""


def planted(read: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """Assemble trees from rows that are single messages. Yields (file, record).

    All other records pass through first. Then one record per root follows, with the root's line and columns. The
    messages of a tree may be anywhere in the input, so all messages are held in memory. A message without a path to a
    root is yielded as a fault.
    """
    found: dict[str, tuple[str, int, Row]] = {}
    for file, record in read:
        row = record.row
        if row is None or not _is_message(row):
            yield file, record
        elif row["message_id"] in found:
            yield file, _stray(record.line, row, f"message twice: {row['message_id']!r}")
        else:
            node = row if not row["parent_id"] else {name: row.get(name) for name in NODE}
            found[row["message_id"]] = (file, record.line, {**node, "replies": []})
    for _, _, node in found.values():
        if node["parent_id"] in found:
            found[node["parent_id"]][2]["replies"].append(node)
    reached: set[str] = set()
    for file, line, node in found.values():
        if not node["parent_id"]:
            yield file, Record(line, {**node, "prompt": node}, raw=_written(node))
            waiting = [node]
            while waiting:
                reached.add(waiting[-1]["message_id"])
                waiting += waiting.pop()["replies"]
    for name, (file, line, node) in found.items():
        if name not in reached:
            why = f"no path to a root: {name!r} answers {node['parent_id']!r}"
            yield file, _stray(line, node, why)


def _is_message(row: Row) -> bool:
    if "message_id" not in row or "prompt" in row or not row.keys() >= MESSAGE:
        return False
    return isinstance(row["message_id"], str) and isinstance(row["parent_id"] or "", str)


def _stray(line: int, row: Row, fault: str) -> Record:
    return Record(line, None, fault, _written(row))


def _written(row: Row) -> bytes:
    """Encode a message as JSON in the form of its original row, for quarantine."""
    return json.dumps({name: value for name, value in row.items() if name != "replies"}, default=str).encode()


def best(row: Row) -> Messages:
    """Return the path of best-ranked replies, from the root to the last assistant message.

    Errors: InvalidRow for a tree without a reply.
    """
    path: list[Row] = []
    nodes = [_root(row)]
    while nodes:
        path.append(nodes[0])
        nodes = _replies(nodes[0])
    while path and path[-1]["role"] == "prompter":
        path.pop()
    if not path:
        raise InvalidRow("no reply: the prompt of this tree has no answer")
    return [_message(node) for node in path]


def pairs(row: Row) -> Iterator[tuple[Messages, Messages, Messages]]:
    """Iterate over (prompt, chosen, rejected) for all differently ranked replies to the same prompt in the tree.

    Errors: InvalidRow when the tree has no differently ranked replies to one prompt.
    """
    found = False
    waiting: list[tuple[Messages, Row]] = [([], _root(row))]
    while waiting:
        above, node = waiting.pop(0)
        path, replies = [*above, _message(node)], _replies(node)
        if node["role"] == "prompter":
            ranked = [reply for reply in replies if isinstance(reply.get("rank"), int | float)]
            for better, worse in combinations(ranked, 2):
                if better["rank"] < worse["rank"]:
                    found = True
                    yield path, [_message(better)], [_message(worse)]
        waiting += [(path, reply) for reply in replies]
    if not found:
        raise InvalidRow("no reply: no prompt of this tree has two ranked answers")


def _root(row: Row) -> Row:
    root = row.get("prompt")
    if not isinstance(root, dict) or root.get("role") != "prompter":
        raise InvalidRow("not a tree: expected prompt to be the message of a prompter with its replies")
    return root


def _replies(node: Row) -> list[Row]:
    """Return the replies that were not deleted and did not fail review, sorted by rank.

    Unranked replies come last, in their order.
    """
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise InvalidRow("not a tree: expected replies to be a list of messages")
    standing = [reply for reply in replies if not reply.get("deleted") and reply.get("review_result") is not False]
    return sorted(standing, key=_rank)


def _rank(reply: Row) -> float:
    rank: Any = reply.get("rank")
    return rank if isinstance(rank, int | float) else float("inf")


def _message(node: Row) -> Row:
    if node.get("role") not in ROLES or not isinstance(node.get("text"), str):
        raise InvalidRow(f"not a tree: expected a message with a text and a role of {', '.join(ROLES)}")
    return {"role": ROLES[node["role"]], "content": node["text"]}
