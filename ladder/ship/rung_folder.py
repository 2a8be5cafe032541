"""Locate a rung by its name or its folder."""

from pathlib import Path

from ladder.pipeline.errors import UserError
from ladder.pipeline.names import did_you_mean

MODELS = Path("models")
BASE = MODELS / "base"
"""Complete model that every adapter rung of a repository is loaded on."""


def rung_folder(rung: str) -> Path:
    """Return the folder of a rung: of its name, such as `sft/words`, in models/, or a folder with rung.json.

    Errors: UserError with the nearest names of rungs that are here.
    """
    named = [MODELS / rung, Path(rung)]
    if found := next((folder for folder in named if (folder / "rung.json").is_file()), None):
        return found
    here = sorted(record.parent.relative_to(MODELS).as_posix() for record in MODELS.rglob("rung.json"))
    near = did_you_mean(rung, here) or f"; expected one of {', '.join(here) or 'none, because models/ has no rung'}"
    raise UserError(f"RUNG: {rung}: no rung of this name{near}. `dvc checkout` or `dvc pull` brings recorded rungs.")


def rung_title(rung: str) -> str:
    """Return the name of a rung, given as a name or as a folder in models/."""
    path = Path(rung)
    return path.relative_to(MODELS).as_posix() if path.parts[:1] == MODELS.parts else path.as_posix()
