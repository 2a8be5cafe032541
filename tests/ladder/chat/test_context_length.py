"""Context length from configurations as published, compared with the lengths that their publishers state."""

import pytest
from transformers import GPT2Config, LlamaConfig, MambaConfig, PretrainedConfig

from ladder.chat.context_length import context_length, fitting_prompts, within
from ladder.pipeline.stage import UserError


class Holder:
    def __init__(self, config):
        self.config = config


PUBLISHED = [
    # Llama 3.1 8B: 128k, with max_position_embeddings as scaled
    ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}, 131072),
    # Qwen2.5 7B with the YaRN of its model card: 128k out of 32k
    ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0,
      "original_max_position_embeddings": 32768}}, 131072),
    # gpt-oss: YaRN with max_position_embeddings as scaled
    ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 32.0,
      "original_max_position_embeddings": 4096}}, 131072),
    # vicuna-13b-v1.5-16k: linear scaling of Llama 2's 4096
    ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
    ({"max_position_embeddings": 4096}, 4096),
]  # fmt: skip


@pytest.mark.parametrize(("values", "length"), PUBLISHED)
def test_the_context_is_the_advertised_one(values, length):
    assert context_length(LlamaConfig(**values)) == length


def test_families_name_it_in_their_own_way_or_have_none():
    assert context_length(GPT2Config()) == 1024
    assert context_length(MambaConfig()) is None
    assert context_length(PretrainedConfig(max_seq_len=2048)) == 2048
    assert context_length(PretrainedConfig(max_position_embeddings=2048, alibi=True)) is None


def test_the_shortest_limit_counts():
    short, long = Holder(LlamaConfig(max_position_embeddings=4096)), Holder(LlamaConfig(max_position_embeddings=8192))
    assert within(6000, long, short) == 4096
    assert within(512, short) == 512
    assert within(None, long) == 8192
    assert within(None, Holder(MambaConfig())) is None


def test_prompts_leave_room_for_the_answer():
    model = Holder(LlamaConfig(max_position_embeddings=100))
    assert fitting_prompts([50, 60, 61], 40, "rows.jsonl", model) == [0, 1]
    with pytest.raises(UserError, match="rows.jsonl: none of 1 prompts leaves room for an answer of 40 tokens"):
        fitting_prompts([61], 40, "rows.jsonl", model)
