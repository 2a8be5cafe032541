"""Stratified order of a benchmark's questions: every prefix keeps the group proportions, for machines that cannot
answer all questions."""

import hashlib
from collections import Counter

import numpy as np

from ladder.eval.benchmark import Question


def order(questions: list[Question], *, seed: int = 0) -> list[Question]:
    """Order the questions so that every prefix keeps the group proportions.

    Two proportions are kept: the questions of each group, and the numbers of questions in 1, 2, 3 groups. The next
    question is the one that leaves the smallest squared distance to these proportions; ties are broken by a hash of
    seed and key. The idea is iterative stratification (Sechidis et al. 2011). A smaller subset is therefore a prefix of
    a larger one, and neither the order of `questions` nor the machine matters.
    """
    if not questions:
        return []
    hashed = sorted(questions, key=lambda question: hashlib.sha256(f"{seed}:{question.key}".encode()).digest())
    features = [_features(question) for question in hashed]
    names = sorted(set().union(*features))
    # All numbers are integers (proportions times the number of questions) far below 2^53. float64 holds them exactly,
    # so sums do not depend on their order, and ties are ties on every machine.
    features_QF = np.array([[feature[name] for name in names] for feature in features], dtype=np.float64)
    squares_Q = (features_QF**2).sum(axis=1) * len(hashed) ** 2
    total_F, taken_F = features_QF.sum(axis=0), np.zeros(len(names))
    chosen: list[int] = []
    for count in range(1, len(hashed) + 1):
        # |(taken + feature) * Q - count * total|^2, without the terms that are equal for all questions.
        missing_F = taken_F * len(hashed) - count * total_F
        distance_Q = features_QF @ (2 * len(hashed) * missing_F) + squares_Q
        distance_Q[chosen] = np.inf
        chosen.append(int(distance_Q.argmin()))
        taken_F += features_QF[chosen[-1]]
    return [hashed[index] for index in chosen]


def _features(question: Question) -> Counter[str]:
    return Counter(question.groups) + Counter([f"{len(question.groups)} groups"])
