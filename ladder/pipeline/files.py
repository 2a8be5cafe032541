"""Read files that a user may have written, with errors for a user."""

from pathlib import Path

from ladder.pipeline.errors import UserError


def read_bytes(path: Path, *, fix: str = "") -> bytes:
    """Read the bytes of a file. Errors: UserError when it is missing, a directory or unreadable.

    fix: what to do about a missing file, as the end of the message.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{f'; {fix}' if fix else ''}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; expected a file") from None


def read_text(path: Path, *, fix: str = "") -> str:
    """Read a UTF-8 text file. Errors: UserError as for `read_bytes`, and for bytes that are not UTF-8."""
    try:
        return read_bytes(path, fix=fix).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
