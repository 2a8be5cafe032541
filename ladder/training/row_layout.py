"""Choose how a micro-batch holds its rows: end to end without padding, or padded to the longest."""

from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ladder.models.packed_attention import NotPackable, attend_packed, isolation_gate
from ladder.pipeline.stage import UserError
from ladder.training.micro_batches import MicroBatches, Row


def lay_out(trainer: MicroBatches, model: Any, rows: list[Row], *, packing: bool, tokens: int | None) -> None:
    """Lay rows end to end if the model computes them as if each were alone, which two rows of the data show.

    Otherwise rows are padded, and one line says why. `model` is the model without its adapter; `packing` is the user's
    trainer.packing, which has no padded form. Errors: UserError for `packing` with a model that cannot pack.
    """
    tokenizer: Any = trainer.processing_class
    pad = tokenizer.pad_token_id
    before = model.config._attn_implementation
    end_to_end = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=True)
    try:
        attend_packed(model)
        with trainer.accelerator.autocast():
            isolation_gate(trainer.model, end_to_end, [rows[0], rows[-1]])
    except NotPackable as reason:
        if packing:
            raise UserError(f"trainer.packing: {reason}; set trainer.packing: false") from None
        model.set_attn_implementation(before)
        print(f"rows are padded: {reason}", flush=True)
        trainer.use(DataCollatorForLanguageModeling(pad_token_id=pad), packed=False, tokens=tokens)
    else:
        trainer.use(end_to_end, packed=True, tokens=tokens)
