"""Model card of a rung for the Hugging Face Hub: lineage, licenses, scores with intervals, settings, how to load it.

Everything comes from files of the repository: report/table.json and dvc.lock, which git keeps, and the rung.json of
the rungs that are here.
"""

from io import StringIO
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from ruamel.yaml import YAML

from ladder.data.markdown import cell, code, fenced, table
from ladder.pipeline.errors import UserError
from ladder.ship.card_scores import comparison_table, eval_results, results_of, score_table, settings_table
from ladder.ship.card_usage import usage
from ladder.ship.hub_names import hub_base
from ladder.ship.licenses import UNKNOWN, Licensed, base_license, data_licenses
from ladder.ship.lineage import Lock, Step, lineage

if TYPE_CHECKING:
    from ladder.ship.export import Exported

HASH = 12
"""Characters of a hash in a table."""


def card(rung: str, exported: "Exported | None" = None, *, license: str | None = None) -> str:
    """Return the card of a rung as Markdown with the hub's YAML header.

    exported: the export that the card is for; None for the rung itself. license: license of the rung's weights in the
    header; by default that of the base. Errors: UserError for an unknown rung, or one behind an endpoint.
    """
    lock = Lock()
    steps = lineage(rung, lock)
    last = steps[-1]
    if last.kind == "endpoint" or last.method == "endpoint":
        raise UserError(f"RUNG: {rung} is a model behind an endpoint; expected a rung with weights")
    base = steps[0]
    of_base, of_data = base_license(base.settings.get("source")), data_licenses(steps, lock)
    results = results_of(rung)
    form = exported.form if exported else ("adapter" if last.kind == "adapter" else "merged")
    data = _header(rung, steps, of_base, license, eval_results(results), form)
    sections = [
        f"# {rung}",
        _summary(last, steps),
        "## How to load it",
        usage(rung, last, base, exported, form),
        "## Scores",
        score_table(results),
        comparison_table(results),
        "## Lineage",
        _lineage(steps),
        "## Data and licenses",
        _licenses([of_base, *of_data]),
        "## Settings",
        *(f"`{step.method}` of {cell(step.rung)}:\n\n{fenced(_yaml(step.settings))}" for step in steps),
        settings_table(results, lock),
    ]
    text = "\n\n".join(section for section in sections if section)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n"))


def _header(
    rung: str, steps: list[Step], base: Licensed, license: str | None, results: list[EvalResult], form: str
) -> ModelCardData:
    source = hub_base(steps[0].settings.get("source"))
    relation = {"adapter": "adapter", "gguf": "quantized"}.get(
        form, "merge" if steps[-1].method == "merge" else "finetune"
    )
    return ModelCardData(
        model_name=rung,
        license=license or _identifier(base.license),
        library_name={"adapter": "peft", "gguf": "gguf"}.get(form, "transformers"),
        pipeline_tag="text-generation",
        base_model=source.name if source else None,
        base_model_relation=relation if source else None,
        tags=["ladder", *dict.fromkeys(step.method for step in steps[1:])],
        eval_results=results or None,
    )


def _identifier(license: str) -> str:
    """Return the hub's identifier of a license; `unknown` for a text that is not one, such as two licenses."""
    return license if license.replace("-", "").replace(".", "").isalnum() else UNKNOWN


def _summary(last: Step, steps: list[Step]) -> str:
    way = " → ".join(code(step.rung) for step in steps)
    return f"Rung {code(last.rung)} of a post-training ladder, made by the stage `{last.method}`. Lineage: {way}."


def _lineage(steps: list[Step]) -> str:
    rows = [
        [
            code(step.rung),
            step.method,
            ", ".join(step.parents),
            ", ".join(f"{file.path} (md5 {file.md5[:HASH]})" for file in step.data),
            code(step.identity[:HASH]) if step.identity else "not here",
            code(step.md5) if step.md5 else "",
        ]
        for step in steps
    ]
    head = ["rung", "method", "parents", "data", "sha256 of rung.json", "DVC's md5 of the folder"]
    note = "rung.json lists the SHA-256 of each file, of the parents and of the base. dvc.lock has every md5."
    return f"{table(head, rows)}\n\n{note}"


def _licenses(sources: list[Licensed]) -> str:
    rows = [[one.what, one.origin, one.license, one.note] for one in sources]
    unknown = any(UNKNOWN in one.license for one in sources)
    warning = "A license is unknown: do not publish before it is known." if unknown else ""
    made = table(["what", "origin", "license", "note"], rows)
    return "\n\n".join(part for part in (made, warning) if part)


def _yaml(settings: dict[str, Any]) -> str:
    stream = StringIO()
    yaml = YAML()
    yaml.representer.add_representer(type(None), _null)
    yaml.dump(settings, stream)
    return stream.getvalue().strip()


def _null(representer: Any, _: None) -> Any:
    """Write null as a word; an empty value looks like a key without one."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
