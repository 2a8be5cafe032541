"""The teacher's logits on every answer, once: no sweep of a student's alpha, temperature or size computes them again.

python -m stages.teacher small data/filter.jsonl models/dpo/chat models/base data/teacher/small.safetensors
"""

from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ladder.chat import conversation, encode, mask_gate
from ladder.distillation import TeacherLogits, save_teacher
from ladder.likelihood import batches
from ladder.models import Model, device, load_complete
from ladder.rows import read_rows
from ladder.run import Refused, Section, run


class Params(Section):
    model: str
    """The rung that teaches: the best one so far."""
    data: str
    """The rows it teaches on: `filter`."""
    top_k: int
    """Logits kept at each token: 6 bytes each."""
    max_length: int
    """Rows of more tokens are left out."""


@torch.inference_mode()
def top_logits(
    teacher: Model, rows: list[list[int]], masks: list[list[int]], top_k: int
) -> list[torch.return_types.topk]:
    """The k largest log-probabilities at each learned token of each row: values and indices [learned, k]."""
    found: dict[int, torch.return_types.topk] = {}
    bar = tqdm(total=len(rows), desc="teacher", unit="row")
    for group in batches([len(row) for row in rows], 4096):
        ids = pad_sequence([torch.tensor(rows[index]) for index in group], batch_first=True).to(device())
        hidden = teacher.model.model(input_ids=ids, use_cache=False).last_hidden_state
        for place, index in enumerate(group):
            learned = torch.tensor(masks[index]).bool().nonzero().flatten().to(device())
            logps = teacher.model.lm_head(hidden[place, learned - 1]).float().log_softmax(-1)
            found[index] = logps.topk(top_k, dim=-1)
        bar.update(len(group))
    bar.close()
    return [found[index] for index in range(len(rows))]


def main(params: Params, data: Path, model: Path, base: Path, output: Path) -> None:
    teacher = load_complete(model, base)
    encoded = [
        encode(teacher.tokenizer, conversation(row, f"{data}: row {number}"))
        for number, row in enumerate(read_rows(data), start=1)
    ]
    kept = [(ids, mask) for ids, mask in encoded if len(ids) <= params.max_length]
    if not kept:
        raise Refused(f"{data}: none of {len(encoded)} rows fits teacher max_length {params.max_length}")
    ids, masks = [ids for ids, _ in kept], [mask for _, mask in kept]
    mask_gate(ids, masks, teacher.stop)
    tops = top_logits(teacher, ids, masks, params.top_k)
    save_teacher(
        output,
        TeacherLogits(
            ids=torch.tensor([token for row in ids for token in row]),
            mask=torch.tensor([bit for row in masks for bit in row]),
            offsets=torch.tensor([0, *(len(row) for row in ids)]).cumsum(0),
            indices=torch.cat([top.indices for top in tops]).cpu(),
            values=torch.cat([top.values for top in tops]).cpu(),
            teacher=teacher.rung.identity,
            tokenizer=teacher.rung.tokenizer,
        ),
    )


if __name__ == "__main__":
    run(main, named=True)
