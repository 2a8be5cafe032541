"""Typer classes of the command line: help pages without escape codes outside a terminal, and suggestions."""

import os
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ladder.pipeline.errors import UserError


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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            from ladder.pipeline.names import did_you_mean

            near = did_you_mean(args[0], self.commands) or f"; expected one of {', '.join(self.commands)}"
            raise UsageError(f"{args[0]}: no such command{near}")
        return super().resolve_command(ctx, args)


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
