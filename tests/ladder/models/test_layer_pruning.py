import pytest
import torch

from ladder.models.layer_pruning import drop_layers, layer_map
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer


def pico(layers, dropped=()):
    model = pico_model(pico_tokenizer(), layers=layers)
    return drop_layers(model, list(dropped)) if dropped else model


def test_what_is_left_are_the_kept_layers_in_order():
    whole, small = pico(4), pico(4, [1, 2])
    ids = torch.tensor([[5, 6, 7]])
    embedded = whole.model.embed_tokens(ids)
    rotary = whole.model.rotary_emb(embedded, torch.arange(3)[None])
    state = embedded
    for number in (0, 3):
        state = whole.model.layers[number](state, position_embeddings=rotary)
    torch.testing.assert_close(small(ids).logits, whole.lm_head(whole.model.norm(state)))
    assert [layer.self_attn.layer_idx for layer in small.model.layers] == [0, 1]


def test_a_student_of_a_student_knows_the_first_parents_layers():
    assert drop_layers(pico(6, [0, 3]), [1]).config.kept_layers == [1, 4, 5]


def test_layers_that_are_not_there_are_named():
    with pytest.raises(UserError, match=r"drop_layers: expected layers from 0 to 3, got \[4\]"):
        pico(4, [4])
    with pytest.raises(UserError, match="drop_layers: all 2 layers would be dropped"):
        pico(2, [0, 1])


def test_the_map_of_layers():
    teacher, student = pico(6).config, pico(3).config
    assert layer_map(student, teacher, None) == {0: 1, 1: 3, 2: 5}
    assert layer_map(pico(6, [1, 2, 4]).config, teacher, None) == {0: 0, 1: 3, 2: 5}
    assert layer_map(student, teacher, {2: 4}) == {2: 4}
    with pytest.raises(UserError, match=r"layers: expected layers of the student from 0 to 2, got \[3\]"):
        layer_map(student, teacher, {3: 4})
    with pytest.raises(UserError, match=r"layers: expected layers of the teacher from 0 to 5, got \[6\]"):
        layer_map(student, teacher, {0: 6})
    with pytest.raises(UserError, match="layers: null requires a student with at most as many layers"):
        layer_map(teacher, student, None)
