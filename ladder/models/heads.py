"""Heads of one number on a language model's last hidden state: a reward for a conversation, a value for each token."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase


class Score(nn.Module):
    """[..., hidden] to [..., 1] in float32, under autocast too: in bfloat16 a margin of 3 has steps of 1/64."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float())

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return linear(hidden.float(), self.weight.float())


def zero_score(config: Any) -> Score:
    """A head for a model of this config whose every answer is 0: it adds no noise of its own to begin with."""
    return Score(torch.zeros(1, config.get_text_config().hidden_size))


def scoring(language_model: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The language model with a scalar head in place of its logits, as transformers' sequence classification.

    The weights are the same tensors, not a copy. The head reads the last token that is not a pad (`reading_pad`).
    """
    config = copy.deepcopy(language_model.config)
    config.num_labels = 1
    config.pad_token_id = reading_pad(tokenizer)
    config.tie_word_embeddings = False  # there is no second matrix to tie to
    with torch.device("meta"):  # a skeleton: its own random weights would be thrown away
        model: Any = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    setattr(model, model.base_model_prefix, language_model.base_model)
    model.score = zero_score(config).to(language_model.device)
    return model


def reading_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """A pad that no answer ends with: many tokenizers pad with the stop token, which would hide how an answer ends."""
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, 0, 1)
    return next(token for token in special if token is not None and token != tokenizer.eos_token_id)
