"""Typer classes of the command line: help pages without escape codes outside a terminal, and suggestions."""

import importlib
import os
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ladder.pipeline.errors import UserError

LAZY = {
    "plan": ("ladder.plan.command", "Show what a run would do, why, and what it costs, before anything runs."),
    "advise": ("ladder.plan.command", "Answer five questions, and get a method, a recipe and the next command."),
}
"""Commands of other Typer applications: the module with its `app`, and the line in the list of commands.

They are imported when they are called, so that the list of commands loads quickly.
"""


class UsageError(UserError):
    """Wrong use of the command line: exit code 2."""


class Command(TyperCommand):
    """Command whose help page has no escape codes without a terminal or under NO_COLOR."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        plain_where_asked()
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """Group that suggests the nearest command for a misspelt one."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        plain_where_asked()
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.commands, *LAZY]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in LAZY:
            return TyperCommand(cmd_name, help=LAZY[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name in LAZY:
            return name, lazy_command(name), args[1:]
        if name not in self.commands:
            from ladder.pipeline.names import did_you_mean

            known = self.list_commands(ctx)
            near = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
            raise UsageError(f"{name}: no such command{near}")
        return super().resolve_command(ctx, args)


def lazy_command(name: str) -> Any:
    """Import a command of LAZY."""
    group: Any = typer.main.get_command(importlib.import_module(LAZY[name][0]).app)
    return group.commands[name]


def plain_where_asked() -> None:
    """Turn off rich's escape codes under NO_COLOR, and leave it to rich whether there is a terminal.

    Under NO_COLOR, rich alone would drop colors but keep bold text. Under GITHUB_ACTIONS, Typer alone would write
    escape codes into a file.
    """
    from typer import rich_utils

    if not os.environ.get("FORCE_COLOR"):
        rich_utils.FORCE_TERMINAL = None
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        rich_utils.COLOR_SYSTEM = None


def usage_sentence(error: typer.TyperException) -> str:
    """Describe an error in the use of the command line in one sentence, with its location."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path.removeprefix("ladder").strip() if context else ""
    option = getattr(error, "option_name", None)
    if option and type(error).__name__ == "NoSuchOption":
        from ladder.pipeline.names import did_you_mean

        known = [name for param in context.command.get_params(context) for name in param.opts] if context else []
        near = did_you_mean(option, known) or f"; see `ladder {command} --help`".replace("  ", " ")
        text = f"{option}: no such option{near}"
    else:
        text = " ".join(error.format_message().split()).removesuffix(".")
        text = f"{text[:1].lower()}{text[1:]}"
    return f"{command}: {text}" if command else text
