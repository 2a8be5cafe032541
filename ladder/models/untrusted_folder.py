"""Safe loading of third-party model folders: library errors become one-sentence user errors, and no code in them runs.

A model's own code never runs (`auto_map`) and pickles are never read (ladder/data/download.py). A config.json that
describes far more weights than the files hold is refused before memory is allocated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig

from ladder.pipeline.stage import UserError

FAULTS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, ImportError, RuntimeError),
    *(AssertionError, NotImplementedError, StrictDataclassError, SafetensorError, TemplateError),
)
"""Exceptions that transformers, peft, torch and their parsers raise for unexpected file contents."""
SLACK = 1_000_000
SHOWN = 300


@contextmanager
def library(where: str, advice: str) -> Iterator[None]:
    """Convert errors of a library call that reads third-party files to UserError, prefixed by `where`.

    Wrap only the library's call: errors in our code must keep their traceback. Out-of-memory errors pass unchanged.
    """
    try:
        yield
    except (torch.OutOfMemoryError, UserError):
        raise
    except FAULTS as error:
        raise UserError(_sentence(where, error, advice)) from None
    except Exception as error:
        if type(error) is not Exception:  # `tokenizers` raises plain Exception
            raise
        raise UserError(_sentence(where, error, advice)) from None


def _sentence(where: str, error: Exception, advice: str) -> str:
    words = " ".join(str(error).split())
    said = f"{words[:SHOWN]}..." if len(words) > SHOWN else words
    return f"{where}: cannot be read ({type(error).__name__}: {said}). {advice}."


def check_size(
    kind: Any, directory: Path, where: str, shapes: dict[str, tuple[int, ...]], gguf_file: str | None = None
) -> None:
    """Refuse a configuration that describes more than twice as many weights as the files hold.

    The configuration is config.json, or the header of a GGUF file. The model is built on the meta device, without
    memory for weights. Errors: UserError.
    """
    held = sum(torch.Size(shape).numel() for shape in shapes.values())
    name = "config.json" if gguf_file is None else "its header"
    advice = f"{name} belongs to another model"
    with library(f"{where}: {name}", advice):
        packed = {"gguf_file": gguf_file} if gguf_file else {}
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, **packed)
        layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
        if isinstance(layers, int) and layers > len(shapes):
            raise UserError(
                f"{where}: {name} describes {layers} layers, but the files have {len(shapes)} tensors. {advice}."
            )
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            built = kind.from_config(config, trust_remote_code=False)
        needed = sum(weight.numel() for weight in (*built.parameters(), *built.buffers()))
    if needed > 2 * held + SLACK:
        raise UserError(f"{where}: {name} describes {needed} weights, but the files have {held}. {advice}.")
