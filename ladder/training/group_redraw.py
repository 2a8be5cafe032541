"""Dynamic sampling for GRPO and RLOO: replace groups of answers that all have the same reward.

In a group whose rewards are equal, every advantage is 0 and the reward gives no gradient. Dynamic sampling draws other
prompts instead, up to a number of rounds ("DAPO", Yu et al. 2025, section 3.2). A group that no round could replace
stays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ladder.inference.sampling import scramble

Rows = list[dict[str, Any]]
SPREAD = 1e-6
"""Rewards that differ by less are equal: float32 sums of the same terms."""


class Group(NamedTuple):
    """The answers to one prompt."""

    inputs: Rows
    """The prompt's row, once per answer."""
    answers: list[list[int]]
    """Token ids of each answer."""
    rewards: list[float]

    @property
    def varied(self) -> bool:
        """Whether the rewards differ, so that the group has a gradient."""
        return max(self.rewards) - min(self.rewards) > SPREAD


class Redrawn(NamedTuple):
    """Groups of one rollout after dynamic sampling."""

    groups: list[Group]
    equal: int
    """Number of groups without reward variance in the first draw."""
    replaced: int
    """Number of these that another prompt replaced."""
    drawn: int
    """Number of further groups that were sampled to find them."""


def redraw(
    groups: list[Group],
    rounds: int,
    others: list[int],
    row: Callable[[int], dict[str, Any]],
    sample: Callable[[Rows], list[Group]],
) -> Redrawn:
    """Replace groups with equal rewards by groups of other prompts with different rewards, in at most `rounds` rounds.

    Each round samples as many prompts as there are groups to replace. `others`: indices of the prompts to draw from, in
    order; `row` returns the row of an index; `sample` answers rows, given once per answer, and returns their groups.
    """
    kept, answers = list(groups), len(groups[0].inputs)
    open_places = [place for place, group in enumerate(kept) if not group.varied]
    equal, drawn, at = len(open_places), 0, 0
    for _ in range(rounds):
        chosen = others[at : at + len(open_places)]
        if not chosen:
            break
        at += len(chosen)
        drawn += len(chosen)
        rows = [one for index in chosen for one in [row(index)] * answers]
        for group in filter(lambda group: group.varied, sample(rows)):
            kept[open_places.pop(0)] = group
    return Redrawn(kept, equal, equal - len(open_places), drawn)


def other_prompts(count: int, used: set[int], seed: int) -> list[int]:
    """Return the indices below `count` that are not in `used`, in an order shuffled by the seed."""
    generator = torch.Generator().manual_seed(scramble(seed))
    return [index for index in torch.randperm(count, generator=generator).tolist() if index not in used]
