"""Command `ladder table` with options: scores over revisions."""

from collections.abc import Sequence

from ladder.cli.output import print_json
from ladder.report.revision_scores import chosen, scores
from ladder.report.score_output import csv_text, document, markdown, print_text
from ladder.report.score_table import with_baseline


def show_scores(
    revisions: Sequence[str] | None,
    *,
    baseline: str | None,
    sort: str | None,
    rungs: Sequence[str],
    benchmarks: Sequence[str],
    form: str,
) -> None:
    """Print the scores of these revisions, or of all with None, in a format: text, markdown, csv or json.

    Errors: UserError for a name that is unknown.
    """
    everything = scores(revisions)
    table = with_baseline(chosen(everything, rungs, benchmarks), everything, baseline, sort)
    if form == "text":
        print_text(table)
    elif form == "markdown":
        print(markdown(table))
    elif form == "csv":
        print(csv_text(table), end="")
    else:
        print_json(document(table))
