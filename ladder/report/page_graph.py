"""Layout of the graph of rungs: parents to the left of their children, as boxes and curves of an SVG image."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 204, 68
"""Size of a box in pixels."""
ACROSS, BETWEEN, MARGIN = 64, 14, 10
"""Pixels between columns, between boxes of a column, and around the graph."""


class Node(NamedTuple):
    rung: str
    x: float
    y: float


class Edge(NamedTuple):
    parent: str
    child: str
    path: str
    """Path data of the curve from the parent's right side to the child's left side."""
    baseline: bool
    """Whether the child is compared with this parent."""


class Graph(NamedTuple):
    width: float
    height: float
    nodes: list[Node]
    edges: list[Edge]


def graph(parents: Mapping[str, Sequence[str]], baselines: Mapping[str, str]) -> Graph:
    """Return the layout of rungs.

    parents: the parents of each rung; a parent without a key is a node too. baselines: the rung that each rung is
    compared with.
    """
    known = {rung: list(above) for rung, above in parents.items()}
    known |= {parent: [] for above in parents.values() for parent in above if parent not in parents}
    depth = depths(known)
    row = rows(known, depth)
    places = {
        rung: (MARGIN + depth[rung] * (WIDTH + ACROSS), MARGIN + row[rung] * (HEIGHT + BETWEEN)) for rung in known
    }
    edges = [
        Edge(parent, rung, path(places[parent], places[rung], list(places.values())), baselines.get(rung) == parent)
        for rung, above in known.items()
        for parent in above
    ]
    width = max((x for x, _ in places.values()), default=0) + WIDTH + MARGIN
    height = max((y for _, y in places.values()), default=0) + HEIGHT + MARGIN
    return Graph(width, height, [Node(rung, *place) for rung, place in places.items()], edges)


def depths(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the column of each rung: one more than the largest of its parents."""
    depth = dict.fromkeys(parents, 0)
    for _ in parents:  # ends also for a table with a cycle
        depth = {rung: max((depth[parent] + 1 for parent in above), default=0) for rung, above in parents.items()}
    return depth


def rows(parents: Mapping[str, Sequence[str]], depth: Mapping[str, int]) -> dict[str, float]:
    """Return the row of each rung: leaves one below the other, a parent in the middle of its children.

    A rung with several parents is placed under the one in the nearest column, so that most curves are short.
    """
    children: dict[str, list[str]] = {rung: [] for rung in parents}
    roots: list[str] = []
    for rung, above in parents.items():
        nearest = max((parent for parent in above if depth[parent] < depth[rung]), key=depth.__getitem__, default=None)
        (roots if nearest is None else children[nearest]).append(rung)
    row: dict[str, float] = {}
    leaves = 0

    def place(rung: str) -> None:
        nonlocal leaves
        for child in children[rung]:
            place(child)
        if not children[rung]:
            row[rung] = float(leaves)
            leaves += 1
        else:
            row[rung] = (row[children[rung][0]] + row[children[rung][-1]]) / 2

    for root in roots:
        place(root)
    return row


def path(start: tuple[float, float], end: tuple[float, float], boxes: Sequence[tuple[float, float]]) -> str:
    """Return the path data from a box to one in a column to the right, between the boxes of the columns it crosses."""
    x, y = start[0] + WIDTH, start[1] + HEIGHT / 2
    data, goal = f"M{x:g} {y:g}", end[1] + HEIGHT / 2
    for column in sorted({left for left, _ in boxes if start[0] < left < end[0]}):
        gap = _gap([top for left, top in boxes if left == column], goal)
        data += f"{_bend((x, y), (column, gap))}H{column + WIDTH:g}"
        x, y = column + WIDTH, gap
    return data + _bend((x, y), (end[0], goal))


def _gap(tops: Sequence[float], goal: float) -> float:
    """Return the place nearest to `goal` where a line passes a column between boxes, above or below them."""
    ordered = sorted(tops)
    outside = [ordered[0] - BETWEEN / 2, ordered[-1] + HEIGHT + BETWEEN / 2]
    between = [(above + HEIGHT + below) / 2 for above, below in zip(ordered, ordered[1:], strict=False)]
    return min([*between, *outside], key=lambda place: abs(place - goal))


def _bend(start: tuple[float, float], end: tuple[float, float]) -> str:
    middle = (start[0] + end[0]) / 2
    return f"C{middle:g} {start[1]:g} {middle:g} {end[1]:g} {end[0]:g} {end[1]:g}"
