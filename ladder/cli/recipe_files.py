"""Files of recipes/: which there are, and the comment at the top of each."""

import re
from pathlib import Path
from typing import NamedTuple

from ladder.pipeline.errors import UserError
from ladder.pipeline.names import did_you_mean

RECIPES = Path("recipes")
PROJECTS = RECIPES / "projects"
"""Recipes that are the whole params.yaml of a project. Those in RECIPES itself change an existing one."""
SCHEMA = "# yaml-language-server:"
NEEDS = re.compile(r"\bNeeds: (?P<needs>.+?)\.(?= |$)")


class Recipe(NamedTuple):
    """A recipe file, as its comment describes it."""

    path: Path
    kind: str
    """`project` or `change`."""
    summary: str
    """First sentence of the comment."""
    needs: str
    """Hardware, data and accounts: the sentence that begins with `Needs:`; empty without one."""

    @property
    def name(self) -> str:
        """Name for the command line."""
        return self.path.stem


def recipes(folder: Path | None = None) -> list[Recipe]:
    """Return the recipes of both folders, or of one: first those that change params.yaml, then projects."""
    folders = (RECIPES, PROJECTS) if folder is None else (folder,)
    return [described(path) for folder in folders for path in sorted(folder.glob("*.yaml"))]


def described(path: Path) -> Recipe:
    """Read the comment at the top of a recipe."""
    words = " ".join(line.removeprefix("#").strip() for line in head(path))
    needs = NEEDS.search(words)
    kind = "project" if path.parent.name == PROJECTS.name else "change"
    return Recipe(path, kind, re.split(r"\. ", words, maxsplit=1)[0].rstrip("."), needs["needs"] if needs else "")


def head(path: Path) -> list[str]:
    """Return the lines of the comment at the top of a recipe, without the line that names the schema."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(SCHEMA):
            lines.append(line)
    return lines


def find(name: str, folders: tuple[Path, ...] = (RECIPES, PROJECTS)) -> Path:
    """Return the file of a recipe: a path, or the name of a file in one of the folders with or without `.yaml`.

    Errors: UserError.
    """
    for path in (Path(name), *(folder / file for folder in folders for file in (name, f"{name}.yaml"))):
        if path.is_file():
            return path
    known = [path.stem for folder in folders for path in sorted(folder.glob("*.yaml"))]
    near = did_you_mean(name, known)
    raise UserError(f"{name}: no such recipe{near}; expected a file, or one of {', '.join(known) or 'none'}")


def listing(found: list[Recipe]) -> str:
    """Format the recipes for a terminal, with the command for each kind."""
    parts = []
    for kind, title in (
        ("project", "Projects: `ladder init --recipe NAME` starts one."),
        ("change", "Changes of params.yaml: `ladder recipe NAME` writes one."),
    ):
        rows = [recipe for recipe in found if recipe.kind == kind]
        lines = [
            f"  {recipe.name}: {recipe.summary}." + f" Needs {recipe.needs}." * bool(recipe.needs) for recipe in rows
        ]
        parts += ["\n".join([title, *lines])] if rows else []
    return "\n\n".join(parts) or "no recipes in recipes/"
