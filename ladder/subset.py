"""A fixed small part of a benchmark that keeps its mix of tasks: for machines that cannot answer all of it."""

import hashlib
from collections import Counter

import numpy as np

from ladder.rows import Row
from ladder.run import Refused


def choose(rows: list[Row], size: int, *, seed: int = 0) -> list[Row]:
    """The first `size` of an order in which every beginning has the whole's mix; 0 is all rows.

    rows have a unique "key" and an "instruction_id_list" of "family:instruction". Kept in proportion are each
    family's number of instructions and the numbers of prompts with 1, 2, 3 instructions: the next row is the one
    that leaves the smallest squared distance to proportion, ties go by a hash of seed and key (the idea of
    iterative stratification, Sechidis et al. 2011). So a smaller choice is a part of a larger one, and neither
    the order of `rows` nor the machine matters.
    Errors: Refused if size is negative or more than there are, or a key stands twice.
    """
    if not 0 <= size <= len(rows):
        raise Refused(f"rows: expected 0 (all) to {len(rows)}, got {size}")
    if twice := [key for key, times in Counter(row["key"] for row in rows).items() if times > 1]:
        raise Refused(f"benchmark rows: key {twice[0]!r} stands twice")
    if not rows:
        return []
    hashed = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row['key']}".encode()).digest())
    features = [_features(row) for row in hashed]
    names = sorted(set().union(*features))
    # Integers throughout (proportions times the number of rows), so that ties are exact on every machine.
    features_RF = np.array([[feature[name] for name in names] for feature in features], dtype=np.int64)
    total_F, taken_F = features_RF.sum(axis=0), np.zeros(len(names), dtype=np.int64)
    order: list[int] = []
    for count in range(1, (size or len(rows)) + 1):
        distance_R = (((taken_F + features_RF) * len(rows) - count * total_F) ** 2).sum(axis=1)
        distance_R[order] = np.iinfo(np.int64).max
        order.append(int(distance_R.argmin()))
        taken_F += features_RF[order[-1]]
    return [hashed[index] for index in order]


def _features(row: Row) -> Counter[str]:
    families = Counter(name.split(":")[0] for name in row["instruction_id_list"])
    return families + Counter([f"{len(row['instruction_id_list'])} instructions"])
