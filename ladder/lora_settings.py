"""What a LoRA adapter is set to, beside what its reader knows of."""

from pathlib import Path

from peft import LoraConfig

SURROUNDINGS = {"task_type", "base_model_name_or_path", "inference_mode", "peft_version", "auto_mapping", "revision"}


def beyond(directory: Path, known: set[str]) -> str | None:
    """The first setting of the adapter in `directory` that is not peft's default and not `known`, with its value;
    None where there is none.
    """
    config, plain = vars(LoraConfig.from_pretrained(str(directory))), vars(LoraConfig())
    other = sorted(key for key in config.keys() - known - SURROUNDINGS if config[key] != plain.get(key))
    return f"{other[0]}: {config[other[0]]!r}" if other else None
