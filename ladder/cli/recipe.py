"""Command `ladder recipe`: merge the values of a recipe into params.yaml."""

import difflib
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.error import YAMLError

from ladder.cli.yaml_edit import Editor
from ladder.data.atomic_write import whole
from ladder.pipeline.defaults import with_defaults
from ladder.pipeline.links import LINKS, write_links
from ladder.pipeline.names import did_you_mean, name_faults
from ladder.pipeline.seeds import OPTIONAL_KEYS
from ladder.pipeline.stage import PARAMS, UserError, read_params, read_written, read_yaml, refuse_secrets
from ladder.pipeline.yaml_lines import Lines


class Applied(NamedTuple):
    """Result of merging a recipe: the changed keys with their new values, and the file before and after."""

    changed: list[str]
    before: str
    after: str

    @property
    def diff(self) -> str:
        """Unified diff of params.yaml; empty if nothing changes."""
        return unified_diff(self.before, self.after)


def unified_diff(before: str, after: str) -> str:
    """Return the unified diff of two texts of params.yaml; empty if they are equal."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    lines = difflib.unified_diff(old, new, str(PARAMS), str(PARAMS))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def recipe(path: Path) -> list[str]:
    """Merge the values of a recipe file into params.yaml, and write links.yaml again (ladder/pipeline/links.py).

    Returns the keys that changed. Errors: those of `applied`.
    """
    found = applied(path)
    if found.after != found.before:
        with whole(PARAMS) as file:
            file.write(found.after.encode())
    write_links(read_written(), PARAMS.with_name(LINKS.name))
    return found.changed


def applied(path: Path) -> Applied:
    """Merge the values of a recipe file into the text of params.yaml, without writing it.

    Lines of keys that the recipe does not name stay byte for byte. A recipe may add an entry to a stage that has named
    entries, such as `ppo.maths`. Errors: UserError for an unknown key, a secret, or params.yaml that would be invalid.
    """
    data, new = read_written(), read_yaml(path)
    if not isinstance(new, dict):
        raise UserError(f"{path}: expected sections such as those of {PARAMS}, got {type(new).__name__}")
    refuse_secrets(new, str(path))
    _refuse_unknown({**data, **with_defaults(data)}, new, (), path)  # an entry has the keys that it inherits, too
    for fault in name_faults({name: section for name, section in new.items() if section is not None}):
        raise UserError(f"{Lines(path).where(fault.keys)}: {fault.sentence}")
    before, values = (file.read_bytes().decode() for file in (PARAMS, path))
    try:
        editor = Editor(before, values)
        after = editor.merged(data, new)
    except UserError as refusal:
        raise UserError(f"{PARAMS}: {refusal}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    _refuse_invalid(after, path)
    return Applied([f"{'.'.join(map(str, keys))}: {_at(new, keys)}" for keys in editor.changed], before, after)


def _refuse_unknown(data: Any, new: dict[Any, Any], keys: tuple[Any, ...], path: Path) -> None:
    """Refuse keys that params.yaml lacks, except new entries of a stage with named entries, and `seeds` of a table."""
    takes_entries = len(keys) == 1 and all(isinstance(entry, dict) for entry in data.values())
    for name, value in new.items():
        if name not in data and not takes_entries and (*keys, name) not in OPTIONAL_KEYS:
            near = did_you_mean(name, data) or f"; keys there: {', '.join(map(str, data)) or 'none'}"
            raise UserError(f"{Lines(path).where((*keys, name))}: not in {PARAMS}{near}")
        if isinstance(value, dict) and isinstance(data.get(name), dict):
            _refuse_unknown(data[name], value, (*keys, name), path)


def _refuse_invalid(text: str, path: Path) -> None:
    """Read the new text as params.yaml before it is written."""
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, PARAMS.name)).write_bytes(text.encode())
        try:
            read_params(file)
        except UserError as refusal:
            raise UserError(f"{path}: {str(refusal).replace(str(file), str(PARAMS))}; nothing was written") from None


def _at(content: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content
