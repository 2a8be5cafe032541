"""Load a GGUF file (llama.cpp's format) as a plain transformers model and tokenizer."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from ladder.models.untrusted_folder import check_size, library

DAMAGED = "Download the file again; if that does not help, transformers does not support this architecture"


@contextmanager
def header_read_once() -> Iterator[None]:
    """Cache the parsed header and the tensor name table of a GGUF file within the block.

    transformers parses the header (with vocabulary and merges) four times, and builds the table once per module.
    Caching both takes 7 s instead of 22 s for a model of 135 M parameters.
    """
    reader, table = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.lru_cache(reader)  # type: ignore[misc, assignment]
    gguf.get_tensor_name_map = functools.lru_cache(table)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, table  # type: ignore[misc]


def is_gguf(path: Path) -> bool:
    """Whether the file starts with the four GGUF magic bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer and chat template in the file, as converted by transformers."""
    with library(f"{path}: its tokenizer", DAMAGED):
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)


def load_model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load and de-quantize all weights to `dtype`. With `dequantize` no quantization is recorded, so it can train."""
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
