"""Registry of benchmarks: the modules of benchmarks/, loaded by name."""

import importlib
import pkgutil
from pathlib import Path

import benchmarks
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Benchmark, Question
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import UserError


def names() -> list[str]:
    """Return the names of all benchmarks, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


def benchmark(name: str) -> Benchmark:
    """Load a benchmark's module. Errors: UserError for an unknown name, or a mean of unknown or mixed measures."""
    if name not in names():
        raise UserError(
            f"no benchmark is named {name!r}{did_you_mean(name, names())}: benchmarks/ has {', '.join(names())}"
        )
    module = importlib.import_module(f"benchmarks.{name}")
    found = Benchmark(
        name,
        module.MEASURES,
        tuple(module.HEADLINE),
        module.questions,
        module.score,
        getattr(module, "MEANS", {}),
        getattr(module, "PACKAGES", ()),
        getattr(module, "templates", lambda questions: getattr(module, "TEMPLATES", ())),
        getattr(module, "needs", lambda: None),
        getattr(module, "CAVEATS", {}),
    )
    for title, parts in {"HEADLINE": found.headline, **found.means}.items():
        if not parts or not set(parts) <= set(found.measures):
            raise UserError(f"benchmarks/{name}.py: {title}: expected names of MEASURES, got {parts!r}")
        if len({(found.measures[part].better, found.measures[part].unit) for part in parts}) > 1:
            raise UserError(f"benchmarks/{name}.py: {title}: a mean of measures with different units or directions")
    return found


def asked(found: Benchmark, rows: list[Row], task: Path) -> list[Question]:
    """Build the benchmark's questions. Errors: UserError for a duplicate key, or a question without a turn."""
    questions = found.questions(rows)
    seen: set[str] = set()
    for question in questions:
        if question.key in seen:
            raise UserError(f"{task}: duplicate key {question.key!r}")
        if not question.turns:
            raise UserError(f"{task}: key {question.key!r}: no question")
        seen.add(question.key)
    return questions
