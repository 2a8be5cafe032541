"""YAML text as a tree of nodes with their positions, from ruamel.yaml's events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)


@dataclass
class Node:
    """Node of a YAML text. `start` and `end` are positions in the text; `end` excludes comments and blank lines."""

    kind: str
    """`scalar`, `mapping`, `sequence` or `alias`."""
    start: int
    end: int
    column: int
    flow: bool = False
    style: str | None = None
    value: str = ""
    anchored: bool = False
    """Whether the node or a node within it has an anchor or is an alias."""
    pairs: list[tuple["Node", "Node"]] = field(default_factory=list)
    items: list["Node"] = field(default_factory=list)

    def pair(self, name: object) -> tuple["Node", "Node"] | None:
        """Return (key, value) of a mapping's key; None if the mapping's own text lacks it."""
        found = (pair for pair in self.pairs if pair[0].kind == "scalar" and pair[0].value == str(name))
        return next(found, None)


def parse(text: str) -> Node | None:
    """Parse one YAML document into a tree of positions; None for an empty one. Errors: YAMLError."""
    events = YAML(typ="safe", pure=True).parse(text)
    for event in events:
        if isinstance(event, NodeEvent):
            return _node(event, events, text)
    return None


def _node(event: NodeEvent, events: Iterator[Any], text: str) -> Node:
    start, end, column = event.start_mark.index, event.end_mark.index, event.start_mark.column
    node = Node("scalar", start, end, column, anchored=event.anchor is not None)
    if isinstance(event, AliasEvent):
        node.kind = "alias"
    elif isinstance(event, ScalarEvent):
        node.style, node.value = event.style, event.value
        if event.style in ("|", ">"):
            node.end = start + len(text[start:end].rstrip())
    elif isinstance(event, MappingStartEvent | SequenceStartEvent):
        node.flow = bool(event.flow_style)
        node.kind = "mapping" if isinstance(event, MappingStartEvent) else "sequence"
        last = event.end_mark
        while not isinstance(inner := next(events), MappingEndEvent | SequenceEndEvent):
            child = _node(inner, events, text)
            if node.kind == "mapping":
                value = _node(next(events), events, text)
                if value.start == value.end:  # an empty value's mark lies at the next token
                    value.start = value.end = text.index(":", child.end) + 1
                node.pairs.append((child, value))
                node.anchored |= child.anchored | value.anchored
                node.end = value.end
            else:
                node.items.append(child)
                node.anchored |= child.anchored
                node.end = child.end
        last = inner.end_mark
        if node.flow:
            node.end = last.index
        elif node.pairs and node.start != node.pairs[0][0].start:
            node.column = node.pairs[0][0].column  # an anchor or tag precedes the first key
    return node
