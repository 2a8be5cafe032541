"""Rows that ask in other words what a benchmark asks: runs of words miss a question that was reworded or translated
(Yang et al. 2023, "Rethinking benchmark and contamination with rephrased samples", arXiv:2311.04850)."""

from pathlib import Path

import numpy as np

from ladder.data.jsonl import Row
from ladder.data.turns import said
from ladder.data.wording import words
from ladder.filters.decontamination import Benchmarks
from ladder.filters.embedding import Vectors, embed
from ladder.pipeline.bounds import Cosine

CHUNK = 256
SHOWN = 20
"""Words of the benchmark's text that a reason shows."""


def paraphrased(batch: list[Row], *, cosine: Cosine, model: Path, benchmarks: Benchmarks) -> list[str | None]:
    """The question's embedding by the sentence encoder in `model` has a cosine below `cosine` to every text of a
    benchmark. Embeddings also bring together questions on the same matter: read the rejected rows before trusting a
    threshold below 0.9."""
    if not batch:
        return []
    texts = list(benchmarks.questions())
    known: Vectors = benchmarks.once(model, lambda: _embedded([text for _, text in texts], model))
    alike = embed([said(row, "prompt") for row in batch], model) @ known.T
    nearest = alike.argmax(axis=1)
    scores = alike[np.arange(len(batch)), nearest]
    return [
        None if score < cosine else _told(float(score), *texts[place])
        for score, place in zip(scores, nearest, strict=True)
    ]


def _embedded(texts: list[str], model: Path) -> Vectors:
    return np.concatenate([embed(texts[start : start + CHUNK], model) for start in range(0, len(texts), CHUNK)])


def _told(score: float, name: str, text: str) -> str:
    return f"{score:.2f} like {name}: {' '.join(words(text)[:SHOWN])}"
