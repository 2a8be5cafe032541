"""Paraphrase decontamination: reject rows whose question is close in meaning to a benchmark text.

N-gram overlap misses questions that were reworded or translated (Yang et al. 2023, "Rethinking benchmark and
contamination with rephrased samples", arXiv:2311.04850).
"""

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
"""Maximum number of words of the benchmark text in a rejection reason."""


def paraphrased(batch: list[Row], *, cosine: Cosine, model: Path, benchmarks: Benchmarks) -> list[str | None]:
    """Keep rows whose question has a cosine similarity below `cosine` to every benchmark text.

    `model` is the directory of the sentence encoder. Embeddings also place questions on the same subject close
    together: inspect the rejected rows before using a threshold below 0.9.
    """
    if not batch:
        return []
    texts = list(benchmarks.questions())
    known: Vectors = benchmarks.once(model, lambda: _embedded([text for _, text in texts], model))
    alike = embed([said(row, "prompt") for row in batch], model) @ known.T
    nearest = alike.argmax(axis=1)
    scores = alike[np.arange(len(batch)), nearest]
    return [
        None if score < cosine else _reason(float(score), *texts[place])
        for score, place in zip(scores, nearest, strict=True)
    ]


def _embedded(texts: list[str], model: Path) -> Vectors:
    return np.concatenate([embed(texts[start : start + CHUNK], model) for start in range(0, len(texts), CHUNK)])


def _reason(score: float, name: str, text: str) -> str:
    return f"cosine {score:.2f} with {name}: {' '.join(words(text)[:SHOWN])}"
