"""Reference of the command line as Markdown, from the Typer application: the section `ladder` of docs/commands.md.

python -m ladder.cli.reference    # writes the section again
"""

from pathlib import Path
from typing import Any

import typer

from ladder.cli.app import app
from ladder.cli.group import LAZY, lazy_command

PAGE = Path("docs/commands.md")
BEGIN, END = "<!-- begin: python -m ladder.cli.reference -->", "<!-- end -->"


def reference() -> str:
    """Return the section: a table of all commands, then each with its options and an example."""
    group: Any = typer.main.get_command(app)
    commands = {**group.commands, **{name: lazy_command(name) for name in LAZY}}
    rows = [f"| [`ladder {name}`](#ladder-{name}) | {_first(command)} |" for name, command in commands.items()]
    parts = ["| command | what it does |\n|---|---|\n" + "\n".join(rows)]
    for name, command in commands.items():
        parts.append(_command(name, command))
    return "\n\n".join(parts)


def _first(command: Any) -> str:
    return str(command.help).partition("\n\n")[0].replace("\n", " ").strip()


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["ladder", name, *command.collect_usage_pieces(context)])
    rows = []
    for parameter in command.params:
        option = parameter.param_type_name == "option"
        flag = option and parameter.is_flag
        title = (
            ", ".join(f"`{text}`" for text in parameter.opts)
            if option
            else f"`{parameter.metavar or parameter.name.upper()}`"
        )
        shown = parameter.metavar or parameter.display_type(context).strip("<>").upper()
        value = f" `{shown}`" if option and not flag else ""
        default = parameter.default
        note = f" Default {default}." if option and not flag and default not in (None, ()) else ""
        rows.append(f"| {title}{value} | {parameter.help}{note} |")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in str(command.help).split("\n\n"))
    table = ["| argument or option | meaning |\n|---|---|\n" + "\n".join(rows)] if rows else []
    example = command.epilog.removeprefix("Example: ")
    return "\n\n".join([f"### ladder {name}", text, f"```sh\n{example}\n```", f"Usage: `{usage}`", *table])


def written(page: str) -> str:
    """Return the page with its section replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
