"""params.yaml of a new project, as text: a recipe, the entries of its benchmarks, and `{}` for every other stage."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ladder.cli.recipe_files import SCHEMA, head
from ladder.cli.yaml_edit import Editor
from ladder.pipeline.dvc_file import read_pipeline
from ladder.pipeline.files import read_text
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import UserError

CATALOG = Path(__file__).with_name("benchmarks.yaml")
"""Entries of every benchmark whose rows are in a package."""
MEASURED = ("task", "answer", "benchmark")
"""Sections with an entry for each benchmark of the table."""
UNUSED = "# Stages that this project does not use. An entry adds one; docs/stages.md says what each does."


def project_text(recipe: Path, changes: dict[str, Any] | None = None) -> str:
    """Return the text of params.yaml for a recipe, with other values for some of its keys.

    changes: sections such as {"base": {"source": ...}}, whose keys the recipe has. Errors: UserError for a recipe
    that is not YAML, or names no benchmark.
    """
    body = _body(recipe)
    data = _loaded(body, recipe)
    if not isinstance(data, dict) or not isinstance(data.get("base"), dict) or not _benchmarks(data):
        raise UserError(
            f"{recipe}: not a project; expected the sections base and report, with report.benchmarks and report.rungs. "
            f"`ladder recipe {recipe.stem}` writes the values of a recipe into an existing params.yaml"
        )
    text = _merged(f"{body}\n{_other_sections(data)}", CATALOG.read_text(encoding="utf-8"), _entries(data))
    if changes:
        text = _merged(text, _yaml(changes), changes)
    return "\n".join([f"{SCHEMA} $schema=schema/params.schema.json", *head(recipe), "", text.strip(), ""])


def _body(recipe: Path) -> str:
    """Return a recipe without the comment at its top."""
    lines = read_text(recipe).splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[first:]).strip() + "\n"


def _loaded(text: str, recipe: Path) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{recipe}: not YAML: {' '.join(str(error).split())}") from None


def _benchmarks(data: dict[str, Any]) -> list[str]:
    report = data.get("report")
    listed = report.get("benchmarks") if isinstance(report, dict) else None
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _other_sections(data: dict[str, Any]) -> str:
    """Return the sections that the recipe leaves out: those of the benchmarks, then `{}` for every other stage."""
    used = {**dict.fromkeys(MEASURED, "{}"), "punkt": "{}", "questions": "{seed: 0}"}
    measured = [f"{stage}: {value}\n" for stage, value in used.items() if stage not in data]
    unused = [f"{stage}: {{}}" for stage in read_pipeline() if stage not in data and stage not in used]
    return "\n".join([*measured, UNUSED, *unused, ""])


def _entries(data: dict[str, Any]) -> dict[str, Any]:
    """Return the catalog's entries of the recipe's benchmarks, without the keys that the recipe has."""
    catalog = _loaded(CATALOG.read_text(encoding="utf-8"), CATALOG)
    found: dict[str, Any] = {} if "punkt" in data else {"punkt": catalog["punkt"]}
    for stage in MEASURED:
        own = data.get(stage) or {}
        for name in _benchmarks(data):
            if name not in catalog[stage] and name not in own:
                near = did_you_mean(name, catalog[stage]) or f"; expected one of {', '.join(catalog[stage])}"
                raise UserError(f"report.benchmarks: {name}: {stage} has no entry for it{near}")
            if name in catalog[stage] and name not in own:
                found.setdefault(stage, {})[name] = catalog[stage][name]
    return found


def _merged(text: str, values: str, new: dict[str, Any]) -> str:
    return Editor(text, values).merged(YAML(typ="safe", pure=True).load(text), new)


def _yaml(changes: dict[str, Any]) -> str:
    """Write sections as YAML, one line for each."""
    return "".join(f"{section}: {json.dumps(values, ensure_ascii=False)}\n" for section, values in changes.items())
