"""Checks of params.yaml for faults that would stop a run: types, names, sources, templates, adapters and gates.

DVC is not imported here. A stage module is imported only for entries that dvc.lock has not recorded as run.
"""

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.config import misfits
from ladder.pipeline.dvc_file import has_entries, values
from ladder.pipeline.endpoint_checks import endpoint_faults
from ladder.pipeline.local_files import RAW, local_files, unseen
from ladder.pipeline.names import Fault, did_you_mean
from ladder.pipeline.seeds import seed_faults
from ladder.pipeline.stage import UserError
from ladder.pipeline.template_checks import template_faults
from ladder.pipeline.yaml_lines import Keys

NAMED_KEYS = frozenset({"source", "model", "base_url", "chat_template", "name", "revision"})
"""Keys whose values name something outside the repository."""
PLACEHOLDER = re.compile(
    r"<[^<>]*>|…|\.\.\.|(?:^|/)path/to(?:/|$)|(?:^|[/@:=.])(?i:your)[-_]"
    r"|(?:^|[/@:=])(?:NAME|ORG|MODEL|MODEL_NAME|MODEL_ID|REPO|REPO_ID|USER|USERNAME|COMMIT|REVISION|SHA|VERSION|HOST|PORT|"
    r"TODO|FIXME|CHANGEME|CHANGE_ME|PLACEHOLDER|X{3,})(?=$|[/@:=])"
)
"""Placeholders that documentation writes in place of a user's own name."""
COMPLETE = frozenset({"prune_layers", "merge", "distill", "distill_features"})
"""Stages whose rungs are complete models, even if their parent is an adapter."""
NO_LANGUAGE_MODEL = {"reward": "a reward model, which scores answers and writes none", "embedder": "a sentence encoder"}
SPEAKERS = frozenset({"parent", "teacher", "draft"})
"""Keys of an entry whose rung must be a language model."""

Entries = list[tuple[tuple[str, ...], str, Any]]


def entries(params: dict[str, Any], pipeline: dict[str, Any]) -> Entries:
    """Return (keys, stage, content) for every section or entry that a stage reads as one object.

    `{}` is left out for a stage that params.yaml does not use: one that is expanded over a list without elements.
    """
    found: Entries = []
    for stage, section in params.items():
        stanza = pipeline.get(stage, {})
        if not has_entries(stage, stanza):
            if section != {} or not _is_idle(stanza, params):
                found.append(((stage,), stage, section))
        elif isinstance(section, dict):
            found += [((stage, name), stage, entry) for name, entry in section.items()]
    return found


def _is_idle(stanza: dict[str, Any], params: dict[str, Any]) -> bool:
    expressions = [f"item.{axis}" for axis in stanza.get("matrix", {})] or ["key"]
    return ("matrix" in stanza or "foreach" in stanza) and not any(
        any(values(expression, stanza, params)) for expression in expressions
    )


def params_faults(params: dict[str, Any], pipeline: dict[str, Any], recorded: dict[str, Any]) -> Iterator[Fault]:
    """Find all faults that this module checks.

    `recorded` maps keys such as `sft.chat` to the sections and entries of the last runs. Unchanged ones are not
    checked again, except for adapters and gates.
    """
    for stage, section in params.items():
        if has_entries(stage, pipeline.get(stage, {})) and not isinstance(section, dict):
            yield Fault((stage,), f"expected named entries, {{}} for none, got {section!r}")
    new = [entry for entry in entries(params, pipeline) if _is_new(entry, recorded)]
    for keys, stage, section in new:
        placeholders = list(placeholder_faults(keys, section))
        yield from placeholders
        taken = {fault.keys for fault in placeholders}
        yield from (fault for fault in type_faults(keys, stage, section) if fault.keys not in taken)
        yield from (fault for fault in source_faults(keys, section) if fault.keys not in taken)
        if stage == "base" and isinstance(section, dict):
            yield from template_faults(section)
    yield from adapter_faults(params)
    yield from endpoint_faults(params)
    yield from gate_faults(params)
    yield from claim_faults(params)
    yield from seed_faults(params)


def _is_new(entry: tuple[tuple[str, ...], str, Any], recorded: dict[str, Any]) -> bool:
    keys, _, section = entry
    key = ".".join(map(str, keys))
    return key not in recorded or recorded[key] != section


def type_faults(keys: Keys, stage: str, section: Any) -> Iterator[Fault]:
    """Find values that do not match the parameter type of the stage."""
    for inner, sentence in misfits(importlib.import_module(f"stages.{stage}").Params, section):
        yield Fault((*keys, *inner), sentence)


def placeholder_faults(keys: Keys, section: Any) -> Iterator[Fault]:
    """Find placeholders copied from documentation or recipes: NAME, org/MODEL, <model>, COMMIT."""
    for inner, value in _leaves(section):
        if inner and inner[-1] in NAMED_KEYS and isinstance(value, str) and (found := PLACEHOLDER.search(value)):
            yield Fault(
                (*keys, *inner), f"{value!r} is a placeholder ({found[0].strip('/@:=')}). Replace it by a real name."
            )


def source_faults(keys: Keys, section: Any) -> Iterator[Fault]:
    """Find sources that `fetch` would refuse: a hub source without commit, a wheel without hash, a missing path."""
    from ladder.data.download import parse

    for inner, value in _leaves(section):
        if not inner or inner[-1] != "source" or not isinstance(value, str):
            continue
        where = (*keys, *inner)
        try:
            parsed = parse(value)
        except UserError as refusal:
            yield Fault(where, str(refusal))
            continue
        beside = _at(section, inner[:-1])
        if parsed.kind == "wheel" and not beside.get("sha256"):
            yield Fault(where, f"source {value}: a wheel needs the sha256 of its member. Add the key sha256.")
        if parsed.kind == "path" and keys[0] != "source" and (why := unseen(value)):
            yield Fault(where, why)
        elif parsed.kind == "path":
            folder = RAW if keys[0] == "source" else Path()
            path = folder / value
            if not path.exists() and not (keys[0] == "source" and any(path.parent.glob(path.name))):
                there = [other.relative_to(folder).as_posix() for other in path.parent.glob("*")]
                yield Fault(where, f"no such file or folder: {path}{did_you_mean(value, there)}")
    for place, value in local_files(str(keys[0]), section):
        if place[-1] != "source" and (why := unseen(value)):
            yield Fault((*keys, *place), why)


def adapter_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find adapters that do not fit their parent, and parents, teachers and drafts that are not language models."""
    for stage, section in params.items():
        for name, entry in section.items() if isinstance(section, dict) else ():
            if not isinstance(entry, dict):
                continue
            for key in SPEAKERS & entry.keys():
                made_by = str(entry[key]).partition("/")[0]
                if made_by in NO_LANGUAGE_MODEL:
                    kind = NO_LANGUAGE_MODEL[made_by]
                    yield Fault((stage, name, key), f"expected a language model, got {entry[key]}, {kind}")
            if "parent" in entry and "lora" in entry:
                yield from _adapter_fault((stage, name), entry, params)


def _adapter_fault(keys: Keys, entry: dict[str, Any], params: dict[str, Any]) -> Iterator[Fault]:
    lora, parent = entry["lora"], entry["parent"]
    if lora == "continue" and rung_kind(parent, params) == "complete":
        yield Fault(
            (*keys, "lora"),
            f"continue needs an adapter, but the parent {parent} is complete. Give lora: {{r: 16}} or null.",
        )
    if entry.get("quantization") is not None and lora is None:
        yield Fault(
            (*keys, "quantization"),
            "quantized weights have no gradient, and lora is null. Give lora: {r: 16}, or quantization: null.",
        )
    if entry.get("quantization") is not None and isinstance(lora, dict) and parent != "base":
        yield Fault(
            (*keys, "quantization"),
            f"a new adapter on quantized weights must start from base, got the parent {parent}. Give lora: continue, "
            "parent: base, or quantization: null.",
        )


def rung_kind(rung: Any, params: dict[str, Any], seen: frozenset[str] = frozenset()) -> str | None:
    """Return `complete` or `adapter`, as the stage will produce the rung; None if params.yaml does not determine it."""
    if rung == "base":
        return "complete"
    stage, _, name = str(rung).partition("/")
    section = params.get(stage)
    entry = section.get(name) if isinstance(section, dict) else None
    if not isinstance(entry, dict) or rung in seen:
        return None
    if stage in COMPLETE:
        return "complete"
    if "lora" not in entry:
        return None
    if entry["lora"] == "continue":
        return rung_kind(entry.get("parent"), params, seen | {str(rung)})
    return "adapter" if isinstance(entry["lora"], dict) and entry.get("parent") == "base" else "complete"


def gate_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find gates over rungs or benchmarks that no stage measures."""
    section = params.get("gate")
    report, claims = params.get("report"), params.get("claims")
    benchmarks, rungs = _names(report, "benchmarks"), _names(report, "rungs")
    benchmarks += _keys(params.get("lm_eval"))
    heldout, practiced = [f"heldout/{name}" for name in _keys(params.get("heldout"))], _names(claims, "heldout")
    for name, entry in section.items() if isinstance(section, dict) else ():
        allowed = entry.get("allowed") if isinstance(entry, dict) else None
        if not isinstance(allowed, dict):
            continue
        keys, measured = ("gate", name), set(rungs + practiced)
        for title in allowed:
            known = heldout if str(title).startswith("heldout/") else benchmarks
            over = practiced if known is heldout else rungs
            if title not in known:
                near = did_you_mean(title, [*benchmarks, *heldout])
                yield Fault((*keys, "allowed", title), f"no stage scores {title!r}{near or _listed(known)}")
            elif entry.get("rung") in measured and entry["rung"] not in over:
                lists = "claims.heldout" if known is heldout else "report.rungs"
                yield Fault((*keys, "rung"), f"{entry['rung']} is not scored on {title}. Add it to {lists}.")
        if entry.get("rung") not in measured:
            near = did_you_mean(entry.get("rung"), measured)
            yield Fault((*keys, "rung"), f"no rung {entry.get('rung')!r} is scored{near or _listed(sorted(measured))}")
        against = entry.get("against")
        if isinstance(against, str) and against not in measured and not _is_revision(against):
            near = did_you_mean(against, measured)
            sentence = f"{against!r} is neither a scored rung nor a git revision{near or _listed(sorted(measured))}"
            yield Fault((*keys, "against"), sentence)


def claim_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find claims about sets of held-out prompts that have no entry, and about reward models that no stage makes."""
    section = params.get("claims")
    claims = section.get("claims") if isinstance(section, dict) else None
    sets = [f"heldout/{name}" for name in _keys(params.get("heldout"))]
    models = [f"reward/{name}" for name in _keys(params.get("reward"))]
    for number, claim in enumerate(claims if isinstance(claims, list) else []):
        if not isinstance(claim, dict):
            continue  # a type fault, reported with the section
        measure, rung = str(claim.get("measure")).partition(":")[0], claim.get("rung")
        keys, known = ("claims", "claims", number), [*sets, "accuracy", "divergence", "reward"]
        if measure not in known:
            yield Fault(keys, f"no stage measures {measure!r}{did_you_mean(measure, known) or _listed(known)}")
        elif measure == "reward" and rung not in models:
            near = did_you_mean(rung, models) or _listed(models)
            yield Fault(keys, f"reward: {rung} is no rung of the stage reward{near}")


def _is_revision(text: str) -> bool:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _listed(names: list[str]) -> str:
    return f"; expected one of {', '.join(map(str, names)) or 'none, as no list names any'}"


def _names(section: Any, key: str) -> list[str]:
    found = section.get(key) if isinstance(section, dict) else None
    return list(found) if isinstance(found, list) else []


def _keys(section: Any) -> list[str]:
    return list(section) if isinstance(section, dict) else []


def _leaves(content: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*keys, key))
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from _leaves(value, (*keys, place))
    else:
        yield keys, content


def _at(content: Any, keys: Keys) -> Any:
    for key in keys:
        content = content[key]
    return content
