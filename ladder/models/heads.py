"""Scalar heads on a language model's last hidden state: a reward per conversation, a value per token."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase


class Score(nn.Module):
    """Linear head [..., hidden] -> [..., 1] in float32, also under autocast: near 3, bfloat16 has steps of 1/64."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float())

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return linear(hidden.float(), self.weight.float())


def zero_score(config: Any) -> Score:
    """Zero-initialized head for a model with this config: all its outputs are 0, so it adds no noise at the start."""
    return Score(torch.zeros(1, config.get_text_config().hidden_size))


def scoring(language_model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Replace a language model's output layer by a scalar head (transformers' sequence classification).

    The weights are shared, not copied. The head reads the last token that is not padding (`reading_pad`).
    """
    config = copy.deepcopy(language_model.config)
    config.num_labels = 1
    config.pad_token_id = reading_pad(tokenizer)
    config.tie_word_embeddings = False  # there is no second matrix to tie
    with torch.device("meta"):  # random initial weights would be discarded
        model: Any = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    setattr(model, model.base_model_prefix, language_model.base_model)
    model.score = zero_score(config).to(language_model.device)
    return model


def reading_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """Pad token that no answer ends with. Many tokenizers pad with the stop token, which would hide an answer's end."""
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, 0, 1)
    return next(token for token in special if token is not None and token != tokenizer.eos_token_id)
