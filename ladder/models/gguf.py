"""A GGUF file (llama.cpp's format) as a plain transformers model and its tokenizer."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from ladder.models.untrusted_folder import check_size, library

DAMAGED = "a new download restores it, or transformers does not know this architecture"


@contextmanager
def header_read_once() -> Iterator[None]:
    """Let transformers share one reading of a file's header and one table of tensor names within the block.

    It parses the header, a whole vocabulary and its merges, four times, and builds the table once per module:
    22 s for a model of 135 M parameters, 7 s with both kept.
    """
    reader, table = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.lru_cache(reader)  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = functools.lru_cache(table)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, table  # type: ignore[misc]


def is_gguf(path: Path) -> bool:
    """Whether the file begins with the format's four magic bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer and chat template inside the file, as transformers converts them."""
    with library(f"{path}: its tokenizer", DAMAGED):
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)


def load_model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """De-quantize every weight to `dtype`; with `dequantize` transformers leaves no mark of it, so it can train."""
    with library(str(path), DAMAGED):
        shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in gguf.GGUFReader(str(path)).tensors}
    check_size(AutoModelForCausalLM, path.parent, str(path), shapes, path.name)
    with library(str(path), DAMAGED):
        return AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            trust_remote_code=False,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
            dtype=dtype,
        )
