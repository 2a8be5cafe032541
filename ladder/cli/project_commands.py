"""Commands that write params.yaml or remove records: a new project, recipes, entries that are gone."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ladder.cli.group import UsageError
from ladder.cli.names import project_names, recipe_names
from ladder.cli.output import Json, messages_on_stderr, print_json
from ladder.pipeline.errors import UserError

if TYPE_CHECKING:
    from ladder.cli.recipe import Applied


def picture() -> None:
    """Print the graph and the table of stages, as in docs/stages.md."""
    from ladder.pipeline.check import picture as drawn

    print(drawn())


def init(
    name: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME", help="Recipe of recipes/projects/, or a path.", autocompletion=project_names
        ),
    ],
    base: Annotated[
        str, typer.Option(metavar="SOURCE", help="Base model: hub:org/name@commit, or a path in data/raw.")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your rows: JSON Lines, Parquet or CSV. Copied into data/raw."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write and delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Start a project of your own: write params.yaml from a recipe, and remove the results of the one before.

    Shows what it will write and delete, and asks. Refuses to delete a change that git does not have. If it is
    interrupted, run it again.
    """
    from ladder.cli.init import carry_out, planned

    with messages_on_stderr(as_json):
        plan = planned(name, base, data)
        print(plan.text)
        if not plan.is_done:
            _confirm(yes)
            carry_out(plan)
    if as_json:
        print_json(plan.document())
    else:
        print(plan.next_steps)


def _confirm(yes: bool) -> None:
    """Ask the user. Errors: UserError after a no, and where no user can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("init: --yes: missing; expected it where no user can be asked. Nothing was changed")
    if not typer.confirm("Write and delete these?"):
        raise UserError("nothing was changed")


def recipe(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Name of a file in recipes/, or a path.", autocompletion=recipe_names),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the change as a unified diff; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the values of a recipe into params.yaml; lines of other keys keep every byte.

    A recipe in recipes/projects/ is the whole params.yaml of a project. `ladder init` starts it, --dry-run shows it.
    """
    from ladder.cli import recipe as recipes
    from ladder.cli import recipe_files

    if listed == (name is not None):
        raise typer.BadParameter("expected the name of a recipe, or --list", param_hint="RECIPE")
    if name is None:
        found = recipe_files.recipes()
        if as_json:
            rows = [{"recipe": str(one.path), "kind": one.kind, "summary": one.summary, "needs": one.needs}
                    for one in found]  # fmt: skip
            print_json(rows)
        else:
            print(recipe_files.listing(found))
        return
    path = recipe_files.find(name)
    is_project = path.parent == recipe_files.PROJECTS
    applied = _as_project(path, dry_run=dry_run) if is_project else recipes.applied(path)
    if not dry_run:
        recipes.recipe(path)
    if as_json:
        print_json({"recipe": str(path), "changed": applied.changed, "diff": applied.diff, "written": not dry_run})
    elif dry_run:
        print(applied.diff, end="")
    else:
        print("\n".join(applied.changed) or "params.yaml has these values already")


def _as_project(path: Path, *, dry_run: bool) -> "Applied":
    """Return the change of params.yaml by a new project. Errors: UserError unless it is only to be shown."""
    from ladder.cli.project_text import project_text
    from ladder.cli.recipe import PARAMS, Applied

    if not dry_run:
        raise UserError(
            f"{path}: the whole params.yaml of a project; expected a change of this one. "
            f"`ladder init --recipe {path.stem}` starts the project, --dry-run shows it"
        )
    before = PARAMS.read_bytes().decode()
    return Applied([], before, project_text(path))


def prune(as_json: Json = False) -> None:
    """Remove records and outputs of entries that params.yaml no longer has."""
    from ladder.pipeline.records import prune as removed

    names = removed()
    if as_json:
        print_json({"removed": names})
    else:
        print("\n".join(f"removed {name}" for name in names) or "nothing to remove")
