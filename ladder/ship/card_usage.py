"""How to load a rung or an export of it: the code of a model card."""

from typing import TYPE_CHECKING

from ladder.data.markdown import code
from ladder.ship.hub_names import hub_base
from ladder.ship.lineage import Step

if TYPE_CHECKING:
    from ladder.ship.export import Exported

ANSWER = """\
messages = [{"role": "user", "content": "Hello"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0, ids["input_ids"].shape[1] :]))
"""


def usage(rung: str, last: Step, base: Step, exported: "Exported | None", form: str) -> str:
    """Return the section of a form: `merged`, `adapter` or `gguf`."""
    if form == "gguf":
        return (
            "The file has the tokenizer and the chat template. llama.cpp and programs on it load it: "
            "`llama-cli -m FILE.gguf`, or `llama-server -m FILE.gguf`."
        )
    if form == "merged":
        return _python(
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="auto")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n' + ANSWER,
            "FOLDER is the folder with these files, or the repository of the hub. vLLM: `vllm serve FOLDER`.",
        )
    return _adapter(last, base, exported)


def _adapter(last: Step, base: Step, exported: "Exported | None") -> str:
    source = hub_base(base.settings.get("source"))
    address = exported.base["address"] if exported else (source.name if source else "models/base")
    revision = exported.base["revision"] if exported else (source.revision if source else None)
    pinned = f', revision="{revision}"' if revision else ""
    rounded = f", quantization_config=BitsAndBytesConfig(**{last.quantization!r})" if last.quantization else ""
    imported = ", BitsAndBytesConfig" if last.quantization else ""
    where = (
        f"The adapter belongs to the base {code(base.identity or base.md5 or 'unknown')} of the ladder, whose source "
        f"is {code(str(base.settings.get('source')))}. `base_model_name_or_path` and `revision` in adapter_config.json "
        "name it for peft; change them if your copy is elsewhere. On any other weights it is another model."
    )
    trained = (
        " It was trained with QLoRA: its answers are those of the quantized base, as in the code." if rounded else ""
    )
    return _python(
        "from peft import PeftModel\n"
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{imported}\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{address}"{pinned}, dtype="auto"{rounded})\n'
        'model = PeftModel.from_pretrained(base, "FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n' + ANSWER,
        where + trained,
    )


def _python(text: str, said: str) -> str:
    return f"```python\n{text}```\n\n{said}"
