"""Measure: one number of a file of rows. It needs no statistics, so that questions do not depend on them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from ladder.data.jsonl import Row


class Measure(NamedTuple):
    """One number of a file of rows: sum(value) / sum(weight), times `scale`."""

    title: str
    unit: str
    better: Literal["higher", "lower"]
    value: Callable[[Row], float]
    weight: Callable[[Row], float]
    share: bool
    """Whether it is a share, between 0 and 1 before scaling."""

    @property
    def scale(self) -> float:
        return 100.0 if self.share else 1.0
