"""Scores of revisions as a pandas DataFrame, for notebooks.

from ladder.report.frame import frame

scores = frame()                            # all commits, tags and experiments that have a table of rungs
scores = frame(["workspace", "v1", "HEAD"])
scores[scores.benchmark == "word_order"].sort_values("score", ascending=False)
"""

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "revision", "commit", "date", "rung", "method", "parent", "benchmark", "score", "low", "high", "n", "unit",
    "better", "seeds", "settings",
)  # fmt: skip


def frame(revisions: Sequence[str] | str | None = None, *, repository: str | Path = ".") -> "pandas.DataFrame":
    """Return one row per revision, rung and benchmark.

    revisions: commits, tags, branches, experiments or `workspace`; None for all that have report/table.json, equal
    commits once. repository: root of the repository.

    score, low and high: the score and the ends of its 95% interval, in `unit`. n: number of questions. settings: hash
    of generation and scoring; scores with another one are not comparable. Then one column for each parameter that
    differs between revisions, such as `sft.maths.lora.r`; missing where the rung does not depend on it.
    Errors: UserError for an unknown revision, or one without a table of rungs.
    """
    import pandas

    from ladder.report.revision_scores import scores

    if isinstance(revisions, str):
        revisions = [revisions]
    with chdir(repository):
        found = scores(revisions)
    params = found.differing()
    rows = [
        {
            **{"revision": line.revision.label, "commit": line.revision.commit, "date": line.revision.date or None},
            **{"rung": line.rung, "method": line.method, "parent": line.parent, "benchmark": name},
            **{key: getattr(score, key) for key in ("score", "low", "high", "n", "unit", "better", "seeds")},
            "settings": score.digest,
            **{key: line.params[key] for key in params if key in line.params},
        }
        for line in found.lines
        for name, score in line.scores.items()
    ]
    return pandas.DataFrame(rows, columns=[*COLUMNS, *params])
