"""Embedding filters: semantic deduplication, selection of a diverse subset, paraphrases of benchmarks.

    semantic_duplicates: {part: prompt, cosine: 0.95}
    k_center: {part: prompt, number: 10000}
    paraphrased: {cosine: 0.9}

The filter's `model` is a directory as sentence-transformers publishes it, for example all-MiniLM-L6-v2. It is an
encoder whose last hidden states are averaged over a text's tokens and normalized (Reimers and Gurevych 2019,
arXiv:1908.10084). The first two filters hold one float32 vector per row (1536 bytes with that model) and compare all
pairs. On a CPU this suits about 100,000 rows. For more rows use SemDeDup (Abbas et al. 2023, arXiv:2303.09540), which
compares within clusters.
"""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel

from ladder.data.jsonl import Row, read_json
from ladder.data.turns import Part, said
from ladder.data.wording import words
from ladder.filters.decontamination import Benchmarks
from ladder.filters.minhash_dedup import batched
from ladder.models.checkpoint import device
from ladder.models.rung import check_recorded
from ladder.models.scoring import batches
from ladder.models.untrusted_folder import library
from ladder.models.weights import RESTORE, check_files, read_tokenizer
from ladder.pipeline.config import Cosine, Size
from ladder.pipeline.stage import UserError

Vectors = NDArray[np.float32]
CHUNK = 256
SHOWN = 20
"""Maximum number of words of the benchmark text in a rejection reason."""
TOKENS = 8192
"""Maximum tokens per forward pass, including padding."""


def semantic_duplicates(rows: Iterable[Row], *, part: Part, cosine: Cosine, model: Path) -> Iterator[str | None]:
    """Reject a row whose embedding has a cosine similarity of at least `cosine` to that of an earlier kept row.

    This is SemDeDup (Abbas et al. 2023) with one cluster. A threshold of 0.95 removes rewordings; below 0.8 it also
    removes rows on the same subject.
    """
    names: list[str] = []
    blocks: list[Vectors] = []
    for batch in batched(_named(rows, part)):
        vectors = embed([text for _, text in batch], model)
        scores, like = _nearest(vectors, blocks)
        within = vectors @ vectors.T
        stay: list[int] = []
        for index in range(len(batch)):
            score, name = scores[index], names[like[index]] if names else ""
            if stay and (here := within[index, stay]).max() > score:
                score, name = here.max(), batch[stay[int(here.argmax())]][0]
            yield None if score < cosine else f"cosine {score:.2f} with {name}"
            if score < cosine:
                stay.append(index)
        blocks.append(vectors[stay])
        names += [batch[index][0] for index in stay]


def _nearest(vectors: Vectors, blocks: list[Vectors]) -> tuple[Vectors, NDArray[np.int64]]:
    """(highest cosine to any row of the blocks, [vectors]; index of that row over all blocks, [vectors])."""
    scores = np.full(len(vectors), -np.inf, np.float32)
    numbers = np.zeros(len(vectors), np.int64)
    before = 0
    for block in blocks:
        if len(block):
            cosines = vectors @ block.T
            highest = cosines.max(axis=1)
            numbers = np.where(highest > scores, before + cosines.argmax(axis=1), numbers)
            scores = np.maximum(scores, highest)
        before += len(block)
    return scores, numbers


def k_center(rows: Iterable[Row], *, part: Part, number: Size, model: Path) -> Iterator[str | None]:
    """Keep `number` rows that cover the others, by greedy k-center.

    Each next center is the row farthest from the centers chosen so far (Gonzalez 1985; Sener and Savarese 2018,
    arXiv:1708.00489). The first row is the first center, and the first of equally far rows is chosen.

    The method favors outliers, including noise: run it after the quality filters.
    """
    names, parts = [], []
    for batch in batched(_named(rows, part)):
        names += [name for name, _ in batch]
        parts.append(embed([text for _, text in batch], model))
    vectors = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    chosen, nearest, centers = centers_of(vectors, number)
    for row in range(len(names)):
        if row in chosen:
            yield None
        else:
            yield f"cosine {nearest[row]:.2f} with {names[centers[row]]}"


def centers_of(vectors: Vectors, number: int) -> tuple[set[int], Vectors, NDArray[np.int64]]:
    """Greedy k-center over unit vectors [rows, width]; the farthest row has the lowest cosine to its center.

    Returns (indices of the centers, cosine of each row to its nearest center [rows], index of that center [rows]).
    """
    nearest = np.full(len(vectors), -np.inf, np.float32)
    centers = np.zeros(len(vectors), np.int64)
    chosen: list[int] = []
    taken = np.zeros(len(vectors), np.bool_)
    for _ in range(min(number, len(vectors))):
        new = int(np.where(taken, np.inf, nearest).argmin())
        chosen.append(new)
        taken[new] = True
        cosines = vectors @ vectors[new]
        centers[cosines > nearest] = new
        np.maximum(nearest, cosines, out=nearest)
    return set(chosen), nearest, centers


def paraphrased(batch: list[Row], *, cosine: Cosine, model: Path, benchmarks: Benchmarks) -> list[str | None]:
    """Keep rows whose question has a cosine similarity below `cosine` to every benchmark text.

    N-gram overlap misses questions that were reworded or translated (Yang et al. 2023, "Rethinking benchmark and
    contamination with rephrased samples", arXiv:2311.04850).

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
        None if score < cosine else _sentence(float(score), *texts[place])
        for score, place in zip(scores, nearest, strict=True)
    ]


def _embedded(texts: list[str], model: Path) -> Vectors:
    return np.concatenate([embed(texts[start : start + CHUNK], model) for start in range(0, len(texts), CHUNK)])


def _sentence(score: float, name: str, text: str) -> str:
    return f"cosine {score:.2f} with {name}: {' '.join(words(text)[:SHOWN])}"


@torch.inference_mode()
def embed(texts: list[str], directory: Path) -> Vectors:
    """Embed texts as unit vectors [texts, width]. A text is truncated at the model's max_seq_length.

    Errors: UserError when the directory is not a sentence encoder.
    """
    model, tokenizer, longest = _encoder(directory)
    ids = [torch.tensor(row) for row in tokenizer(texts, truncation=True, max_length=longest).input_ids]
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for group in batches([len(row) for row in ids], TOKENS):
        rows = [ids[index] for index in group]
        padded = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id).to(device())
        seen = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device())
        hidden = model(input_ids=padded, attention_mask=seen).last_hidden_state.float()
        means = (hidden * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        vectors[group] = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
    return vectors


@functools.lru_cache(maxsize=1)
def _encoder(directory: Path) -> tuple[Any, Any, int]:
    pooling = directory / "1_Pooling" / "config.json"
    if not (directory / "config.json").is_file() or not pooling.is_file():
        raise UserError(f"{directory}: no sentence encoder (config.json and 1_Pooling/config.json)")
    check_recorded(directory)
    if not read_json(pooling).get("pooling_mode_mean_tokens"):
        raise UserError(f"{pooling}: expected mean pooling (pooling_mode_mean_tokens); no other is supported")
    longest = read_json(directory / "sentence_bert_config.json").get("max_seq_length")
    if not isinstance(longest, int) or longest < 1:
        raise UserError(f"{directory}/sentence_bert_config.json: max_seq_length: expected 1 or more, got {longest!r}")
    check_files(directory)
    with library(str(directory), RESTORE):
        model = AutoModel.from_pretrained(directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    return model.to(device()).eval(), read_tokenizer(directory), longest


def _named(rows: Iterable[Row], part: Part) -> Iterator[tuple[str, str]]:
    return ((str(row.get("id", f"row {number}")), said(row, part)) for number, row in enumerate(rows, start=1))
