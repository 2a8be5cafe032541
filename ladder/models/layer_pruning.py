"""Decoder layers: dropping some of them, and mapping a student's layers to a teacher's for distillation."""

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ladder.pipeline.stage import UserError


def kept_layers(count: int, dropped: list[int]) -> list[int]:
    """Indices of the layers that remain of `count` layers.

    Errors: UserError for an index out of range, or if no layer remains.
    """
    outside = sorted(set(dropped) - set(range(count)))
    if outside:
        raise UserError(f"drop_layers: expected layers from 0 to {count - 1}, got {outside}")
    kept = [number for number in range(count) if number not in dropped]
    if not kept:
        raise UserError(f"drop_layers: all {count} layers would be dropped. Keep at least one.")
    return kept


def drop_layers(model: PreTrainedModel, dropped: list[int]) -> PreTrainedModel:
    """Drop layers of a model in place; the remaining layers are renumbered, for the cache and the saved config.

    The config's `kept_layers` lists their indices in the original parent; it is kept in every copy of the model.
    """
    layers, config = model.model.layers, model.config
    kept = kept_layers(len(layers), dropped)
    model.model.layers = torch.nn.ModuleList(layers[number] for number in kept)
    for number, layer in enumerate(model.model.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    before = getattr(config, "kept_layers", None) or list(range(len(layers)))
    config.kept_layers = [before[number] for number in kept]
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in kept]
    return model


def layer_map(student: PreTrainedConfig, teacher: PreTrainedConfig, given: dict[int, int] | None) -> dict[int, int]:
    """Map each student layer to the teacher layer that it learns from; both are counted from 0.

    If `given` is None: the kept layers of a layer-dropped student, if the teacher still has all of them. Otherwise
    evenly spaced layers, the student's last mapped to the teacher's last (Jiao et al. 2020, section 4.1).
    Errors: UserError for an index out of range, or a student with more layers than its teacher.
    """
    ours, theirs = student.num_hidden_layers, teacher.num_hidden_layers
    if given is None:
        kept = getattr(student, "kept_layers", None)
        if kept and getattr(teacher, "kept_layers", None) is None and max(kept) < theirs:
            return dict(enumerate(kept))
        return {layer: (layer + 1) * theirs // ours - 1 for layer in range(ours)} if ours <= theirs else _deeper()
    for side, numbers, count in (("student", given.keys(), ours), ("teacher", given.values(), theirs)):
        outside = sorted(set(numbers) - set(range(count)))
        if outside:
            raise UserError(f"layers: expected layers of the {side} from 0 to {count - 1}, got {outside}")
    return given


def _deeper() -> dict[int, int]:
    raise UserError(
        "layers: null requires a student with at most as many layers as its teacher. "
        "Set {student layer: teacher layer, ...}."
    )
