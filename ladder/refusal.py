"""The user-facing error: one sentence, no traceback. It has a module of its own because everything may raise it."""


class Refused(Exception):
    """User-facing error: one sentence that names the file, line or key, and what was expected."""
