"""Picture of the pipeline for docs/stages.md."""

from collections import Counter

import networkx
from dvc.repo import Repo

from ladder.data.markdown import code, table
from ladder.pipeline.dvc_file import body, read_pipeline
from ladder.pipeline.seeds import MARK

CODE = "code"
"""Stage on which all others depend."""


def picture() -> str:
    """Return the pipeline up to the report as Markdown: a Mermaid flowchart and a table of every stage's `desc`.

    The flowchart merges the entries of a stage into one node. A node with replicas (ladder/pipeline/seeds.py) states
    their number. It is a transitive reduction and omits edges from `code`.
    """
    graph = networkx.DiGraph()
    with Repo() as repo:
        report = next(stage for stage in repo.index.stages if stage.addressing == "report")
        climbed = {report, *networkx.descendants(repo.index.graph, report)}
        for user, maker in repo.index.graph.subgraph(climbed).edges:
            first, second = (stage.addressing.split("@")[0] for stage in (maker, user))
            if first not in (second, CODE):
                graph.add_edge(first, second)
        replicas = Counter(stage.addressing.split("@")[0] for stage in climbed if MARK in stage.addressing)
    arrows = sorted(networkx.transitive_reduction(graph).edges)
    counts = [f'    {kind}["{kind} ({count} replicas)"]' for kind, count in sorted(replicas.items())]
    drawn = ["```mermaid", "flowchart TD", *counts, *(f"    {first} --> {second}" for first, second in arrows), "```"]
    stanzas = read_pipeline()
    rows = [(code(name), body(stanza)["desc"]) for name, stanza in stanzas.items()]
    return "\n".join([*drawn, "", table(["stage", "what it makes"], rows, rule=["---", "---"])])
