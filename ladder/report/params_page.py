"""Reference of params.yaml as Markdown pages, and its JSON Schema for editors, both from the stages' Params types.

python -m ladder.report.params_page    # writes docs/params.md, docs/library-params.md and schema/*.json
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

from ladder.data.jsonl import write_text
from ladder.data.markdown import Markdown, table
from ladder.pipeline.stage import UserError

MADE = "[comment]: # (Made by `python -m ladder.report.params_page`. Do not edit.)"
PARAMS_HEAD = f"""{MADE}

# Keys of params.yaml

One section per stage, in the order of dvc.yaml. A section with *named entries* holds any number of them:
`sft: {{chat: {{...}}, code: {{...}}}}`. A key without a default is required. An unknown key is an error.
The arguments of TRL, transformers, peft and bitsandbytes are on [their own page](library-params.md).
"""
LIBRARY_HEAD = f"""{MADE}

# Arguments of other libraries in params.yaml

Arguments of TRL, transformers, peft and bitsandbytes that have an effect here, under the libraries' own names. The
libraries' documentation explains them. [Trainer keys](trainer-keys.md) lists the keys that are refused, and what to
use instead.
"""
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
LIBRARIES = ("SFTConfig", "DPOConfig", "KTOConfig", "RewardConfig", "GRPOConfig", "RLOOConfig", "TrainingArguments",
             "LoraConfig", "BitsAndBytesConfig")  # fmt: skip


def files() -> dict[Path, str]:
    """Return the text of every generated file by its path."""
    from ladder.report.defaults_schema import with_defaults_section
    from ladder.report.params_schema import params_schema, partial  # imports all stages: half a minute

    schema = params_schema()
    whole = with_defaults_section(schema)
    return {
        Path("docs/params.md"): _params_page(schema),
        Path("docs/library-params.md"): _library_page(schema),
        Path("schema/params.schema.json"): _json(whole),
        Path("schema/recipe.schema.json"): _json({**partial(_plain(whole)), "title": "Recipe"}),
    }


def write_reference(root: Path) -> list[Path]:
    """Write every generated file under the repository's root; return the paths of those that changed."""
    changed = []
    for path, text in files().items():
        target = root / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text)
            changed.append(path)
    return changed


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without the rules about required keys."""
    return copy.deepcopy({key: value for key, value in schema.items() if key != "allOf"})


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False, indent=1) + "\n"


def _params_page(schema: dict[str, Any]) -> str:
    definitions = schema["$defs"]
    parts = [PARAMS_HEAD]
    stages: set[str] = set()
    for stage, section in schema["properties"].items():
        inner = section.get("additionalProperties")
        name = _name(inner or section)
        stages.add(name)
        if not definitions[name]["properties"] and (entry := definitions[name]["additionalProperties"]):
            inner, name = entry, _name(entry)  # one run of the stage reads all of its entries
            stages.add(name)
        kind = " Named entries, each with these keys:" if inner else ""
        parts.append(f"## {stage}\n\n{section['description']}.{kind}\n\n{_keys(definitions[name])}")
    shared = sorted(name for name in definitions if name not in stages and not _is_library(name))
    for title, kinds in _choices(schema).items():
        parts.append(f"## {title}\n\nEach is written as `name: {{parameters}}`.\n")
        parts += [f"### {title}: {name}\n\n{_sentence(node)}{_keys(node)}" for name, node in kinds.items()]
    parts.append("## Shared types\n\nValues that are mappings with keys of their own.\n")
    for name in shared:
        node = definitions[name]
        text = _keys(node) if "properties" in node else f"{_type(node)}.\n"
        parts.append(f"### {_title(name)}\n\n{_sentence(node)}{text}")
    return "\n".join(parts)


def _choices(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters of every filter and reward, by the title of its list."""
    keys = [one for node in schema["$defs"].values() for one in node.get("properties", {}).values()]
    lists = {one["title"]: one["items"]["properties"] for one in keys if "maxProperties" in one.get("items", {})}
    return dict(sorted(lists.items()))


def _library_page(schema: dict[str, Any]) -> str:
    found = {name: node for name, node in schema["$defs"].items() if _is_library(name)}
    parts = [LIBRARY_HEAD]
    for name, node in sorted(found.items(), key=lambda item: LIBRARIES.index(item[0].partition("_")[0])):
        keys = {key: one for key, one in node["properties"].items() if not one.get("deprecated")}
        rows = [[f"`{key}`", _type(one), _default(one)] for key, one in keys.items()]
        parts.append(f"## {_title(name)}\n\n{_table(['key', 'type', 'default'], rows)}\n")
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Table of cells that are Markdown already."""
    return table(head, [[Markdown(text) for text in row] for row in rows])


def _is_library(name: str) -> bool:
    return name.partition("_")[0] in LIBRARIES


def _name(node: dict[str, Any]) -> str:
    """Return the name of the definition that a node refers to; empty if it refers to none."""
    (target,) = node.get("allOf", [node])
    return str(target.get("$ref", "")).removeprefix("#/$defs/")


def _title(name: str) -> str:
    """Return a definition's title: `TrainingArguments (pairs)`."""
    if _is_library(name):
        return name.replace("_", " (") + (")" if "_" in name else "")
    return (
        name.rpartition("__")[2] if not name.startswith("stages__") else f"{name.split('__')[1]}: {name.split('__')[2]}"
    )


def _anchor(name: str) -> str:
    return "".join(letter for letter in _title(name).lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def _keys(node: dict[str, Any]) -> str:
    properties = node.get("properties", {})
    if not properties:
        return "No keys.\n"
    required = node.get("required", [])
    head, rows = ["key", "type", "default", "meaning"], []
    for key, one in properties.items():
        rows.append([f"`{key}`", _type(one), "required" if key in required else _default(one), _meaning(one)])
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return _table(head, rows) + "\n"


def _sentence(node: dict[str, Any]) -> str:
    text = node.get("description", "")
    return f"{text}\n\n" if text else ""


def _meaning(node: dict[str, Any]) -> str:
    return " ".join(node.get("description", "").split())


def _default(node: dict[str, Any]) -> str:
    return f"`{json.dumps(node['default'], ensure_ascii=False)}`" if "default" in node else ""


def _type(node: dict[str, Any]) -> str:
    """Describe the values that a schema accepts: "whole number ≥ 1 or null"."""
    if name := _name(node):
        page = "library-params.md" if _is_library(name) else ""
        return f"[{_title(name)}]({page}#{_anchor(name)})"
    if "anyOf" in node:
        bounds = {key: node[key] for key in BOUNDS if key in node}
        kinds = [{**one, **bounds} if one.get("type") in ("integer", "number") else one for one in node["anyOf"]]
        return " or ".join(dict.fromkeys(map(_type, kinds)))
    if "enum" in node:
        return " or ".join(f"`{json.dumps(one).strip(chr(34))}`" for one in node["enum"])
    if "const" in node:
        return f"`{json.dumps(node['const']).strip(chr(34))}`"
    match node.get("type"):
        case "array":
            return _array(node)
        case "object" | ["object", "null"]:
            return _mapping(node)
        case str(name):
            return f"{TYPES[name]}{_bounds(node)}"
    return f"any{_bounds(node)}"


def _array(node: dict[str, Any]) -> str:
    inner = node.get("items", {})
    if isinstance(inner, list):
        return f"list of {len(inner)}: {', '.join(map(_type, inner))}"
    if "maxProperties" in inner:
        return f"list of [{node['title'].lower()}](#{node['title'].lower()})"
    return f"list of {_type(inner)}" if inner else "list"


def _mapping(node: dict[str, Any]) -> str:
    if node.get("properties"):
        return f"mapping of {', '.join(f'`{name}`' for name in node['properties'])}"
    inner = node.get("additionalProperties")
    return f"mapping of names to {_type(inner)}" if isinstance(inner, dict) and inner else "mapping"


def _bounds(node: dict[str, Any]) -> str:
    found = [text.format(node[key]) for key, text in BOUNDS.items() if key in node]
    return f" {' and '.join(found)}" if found else ""


def main() -> None:
    try:
        print("\n".join(f"wrote {path}" for path in write_reference(Path())) or "nothing changed")
    except UserError as refusal:
        sys.exit(f"ladder: {refusal}")


if __name__ == "__main__":
    main()
