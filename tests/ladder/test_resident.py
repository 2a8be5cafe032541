"""Resident memory over the steps of real stages, in processes of their own: batches differ in length."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import ROOT, pico_tokenizer
from ladder import resident
from ladder.models import save_rung
from ladder.resident import Resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
MB = 1 << 20


@pytest.fixture(scope="module")
def broad(tmp_path_factory):
    """A rung of a small model with 16,384 tokens: the logits of a batch are many megabytes."""
    torch.manual_seed(0)
    tokenizer, folder = pico_tokenizer(), tmp_path_factory.mktemp("models") / "base"
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=16384, max_position_embeddings=4096, tie_word_embeddings=True, **size)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    save_rung(folder, model, tokenizer, rung="base", method="base")
    return folder


def test_memory_that_grows_is_given_back(monkeypatch):
    """A sequence by hand: level at 1000 MB, growth up to 1250 MB is let be, 1260 MB is given back, and level anew."""
    given = []
    monkeypatch.setattr(resident, "give_back", lambda: given.append(True))
    watch = Resident()
    for held, count in [(800, 0), (1000, 0), (1240, 0), (1250, 0), (1260, 1), (1500, 1), (1400, 1), (1860, 1), (1880, 2)]:
        watch.look(held * MB)
        assert (len(given), watch.given_back) == (count, count)
    small = Resident()
    for held in (100, 100, 160, 160):  # less than SMALLEST
        small.look(held * MB)
    assert small.given_back == 0


def test_freed_memory_goes_back_to_the_kernel():
    """64,000 pieces of 8 KB, every one but each hundredth freed: what stays pins the heap, and is all that stays."""
    code = """
import stages
from ladder.resident import give_back, resident
pieces = [bytearray(8192) for _ in range(64000)]
full = resident()
pieces = pieces[::100]
before = resident()
give_back()
print((full - before) >> 20, (before - resident()) >> 20)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, returned = map(int, done.stdout.split())
    assert kept < 50 and returned > 300  # of 500 MB


TRAIN = """
import json, os, sys
import stages, transformers
from ladder.resident import Resident, resident
import test_resident

class Watch(transformers.TrainerCallback):
    held = []
    def on_step_end(self, args, state, control, **rest):
        self.held.append(resident() >> 20)

transformers.trainer.DEFAULT_CALLBACKS.append(Watch)
if os.environ.get("KEEP"):
    Resident.look = lambda *_: None
getattr(test_resident, sys.argv[1])(*map(test_resident.Path, sys.argv[2:]))
print(json.dumps(Watch.held))
"""
