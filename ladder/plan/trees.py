"""Trees of the stages that would run, each under the input that makes it run: for a terminal and as Markdown."""

from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from ladder.plan.changes import Change, Reason


@dataclass
class Branch:
    """A stage, or several stages of one name with the same reasons, and the stages that run because of it."""

    label: str
    reasons: tuple[str, ...]
    children: list["Branch"]


def branches(found: dict[str, Change], *, everything: bool = False) -> list[Branch]:
    """Return the stages that would run as trees: each is under the last of its inputs that runs.

    Without `everything`, sister stages of one name with the same reasons and nothing after them are one branch.
    """
    running = {name: change for name, change in found.items() if change.runs}
    tops: list[Branch] = []
    made: dict[str, Branch] = {}
    for name, change in running.items():
        reasons = tuple(reported(reason) for reason in change.reasons if reason.kind != "upstream")
        above = [reason.text for reason in change.reasons if reason.kind == "upstream" and reason.text in made]
        made[name] = Branch(name, reasons, [])
        (made[above[-1]].children if above else tops).append(made[name])
    return tops if everything else _grouped(tops)


def reported(reason: Reason) -> str:
    """Return a reason as text; the kinds param, file and code name themselves."""
    return f"{reason.kind}: {reason.text}" if reason.kind in ("param", "code") else reason.text


def _grouped(listed: list[Branch]) -> list[Branch]:
    groups: dict[tuple[str, tuple[str, ...], bool], list[Branch]] = {}
    for branch in listed:
        branch.children = _grouped(branch.children)
        key = (branch.label.split("@")[0], branch.reasons, bool(branch.children))
        groups.setdefault(key, []).append(branch)
    result = []
    for (kind, reasons, parent), alike_branches in groups.items():
        if parent or len(alike_branches) < 2:
            result += alike_branches
        else:
            result.append(Branch(f"{kind} ({len(alike_branches)} stages)", reasons, []))
    return result


def rich_tree(listed: list[Branch], title: str) -> Tree:
    """Return the trees for a terminal."""
    tree = Tree(Text(title, style="bold"), guide_style="dim")

    def add(above: Tree, branch: Branch) -> None:
        text = Text(branch.label)
        text.append(f"  {'; '.join(branch.reasons)}" if branch.reasons else "  input runs", style="dim")
        below = above.add(text)
        for child in branch.children:
            add(below, child)

    for branch in listed:
        add(tree, branch)
    return tree


def markdown_tree(listed: list[Branch], depth: int = 0) -> list[str]:
    """Return the trees as lines of a nested Markdown list."""
    lines = []
    for branch in listed:
        reasons = "; ".join(branch.reasons) or "input runs"
        lines.append(f"{'  ' * depth}- `{branch.label}`: {reasons}")
        lines += markdown_tree(branch.children, depth + 1)
    return lines
