"""Open Assistant's conversation trees (Köpf et al. 2023): a prompt, the replies to it, replies to those, and so on;
an assistant's replies to the same prompt are ranked by people, 0 the best. A tree is a row, or its messages are rows of
their own, each with the id of its parent."""

import json
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from ladder.chat.encode import Messages
from ladder.data.invalid_rows import InvalidRow
from ladder.data.jsonl import Row
from ladder.data.readers import Record

ROLES = {"prompter": "user", "assistant": "assistant"}
MESSAGE = {"message_id", "parent_id", "text", "role"}
NODE = (*sorted(MESSAGE), "rank", "deleted", "review_result")
"""What is held of a message that is no root."""


def planted(read: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """(file, record) of all that is read, where messages that are rows of their own are put together: a tree for each
    root, after all other records, at the root's place and with its columns. Messages of one tree may lie anywhere, so
    all of them are held until then. One without a way up to a root is told as a fault."""
    found: dict[str, tuple[str, int, Row]] = {}
    for file, record in read:
        row = record.row
        if row is None or not _is_message(row):
            yield file, record
        elif row["message_id"] in found:
            yield file, _stray(record.line, row, f"message twice: {row['message_id']!r} stands before too")
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
            why = f"no way to a root: {name!r} answers {node['parent_id']!r}"
            yield file, _stray(line, node, why)


def _is_message(row: Row) -> bool:
    if "message_id" not in row or "prompt" in row or not row.keys() >= MESSAGE:
        return False
    return isinstance(row["message_id"], str) and isinstance(row["parent_id"] or "", str)


def _stray(line: int, row: Row, fault: str) -> Record:
    return Record(line, None, fault, _written(row))


def _written(row: Row) -> bytes:
    """A message as its row was, for a quarantine."""
    return json.dumps({name: value for name, value in row.items() if name != "replies"}, default=str).encode()


def best(row: Row) -> Messages:
    """The path of the best replies, from the root to the last one of the assistant."""
    path: list[Row] = []
    nodes = [_root(row)]
    while nodes:
        path.append(nodes[0])
        nodes = _replies(nodes[0])
    while path and path[-1]["role"] == "prompter":
        path.pop()
    if not path:
        raise InvalidRow("no reply: nobody answers the prompt of this tree")
    return [_message(node) for node in path]


def pairs(row: Row) -> Iterator[tuple[Messages, Messages, Messages]]:
    """(prompt, chosen, rejected) of every two ranked replies to the same prompt, anywhere in the tree; replies of
    equal rank make none. Errors: InvalidRow when the tree has no such two."""
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
        raise InvalidRow("no reply: no two ranked answers to the same prompt in this tree")


def _root(row: Row) -> Row:
    root = row.get("prompt")
    if not isinstance(root, dict) or root.get("role") != "prompter":
        raise InvalidRow("not a tree: expected prompt to be the message of a prompter with its replies")
    return root


def _replies(node: Row) -> list[Row]:
    """The replies that stand, the best first: by rank, those without one last, in their order."""
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
        raise InvalidRow(f"not a tree: expected a message with a role of {', '.join(ROLES)} and a text")
    return {"role": ROLES[node["role"]], "content": node["text"]}
