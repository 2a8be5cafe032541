import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from conftest import assistant, user
from ladder.decontamination import Benchmarks
from ladder.paraphrases import paraphrased
from ladder.semantic import embed

WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven"]
QUESTIONS = ["red green blue", "one two three four", "six seven one"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random encoder of one layer, laid out as sentence-transformers does."""
    directory = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return directory


def test_a_question_near_to_a_benchmarks_goes_as_brute_force_has_it(encoder):
    asked = ["red blue green", "two one four three", "five", "seven six"]
    batch = [{"prompt": user(text), "completion": assistant("A")} for text in asked]
    benchmarks = Benchmarks({"quiz": [{"question": text, "answer": "red"} for text in QUESTIONS]})
    cosines = embed(asked, encoder).astype(np.float64) @ embed(QUESTIONS, encoder).T.astype(np.float64)
    cut = float(np.sort(cosines.max(axis=1))[1:3].mean())
    wanted = [f"{row.max():.2f} like quiz: {QUESTIONS[row.argmax()]}" if row.max() >= cut else None for row in cosines]
    assert wanted.count(None) == 2
    assert paraphrased(batch, cosine=cut, model=encoder, benchmarks=benchmarks) == wanted
    assert [paraphrased([row], cosine=cut, model=encoder, benchmarks=benchmarks)[0] is None for row in batch] == [
        reason is None for reason in wanted
    ]


def test_the_same_words_have_a_cosine_of_one(encoder):
    row = {"prompt": user("red green blue"), "completion": assistant("A")}
    benchmarks = Benchmarks({"quiz": [{"question": QUESTIONS[0]}]})
    assert paraphrased([row], cosine=0.999, model=encoder, benchmarks=benchmarks) == ["1.00 like quiz: red green blue"]
    assert paraphrased([], cosine=0.999, model=encoder, benchmarks=benchmarks) == []
