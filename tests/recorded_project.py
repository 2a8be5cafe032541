"""A small project that DVC has run: two commits with tags and an experiment, for tests of `table`, `why` and `ledger`.

The script make.py is the code of all stages. Scores are equations of the parameters, so that a test can work them out:
base 20, sft/words 30 + lora.r, each with an interval of plus and minus 5.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dvc.repo import Repo
from dvc.repo.experiments.run import run as run_experiment

from ladder.data.jsonl import write_rows
from ladder.pipeline.links import write_links
from ladder.pipeline.stage import read_written

PIPELINE = """
vars: [links.yaml]
stages:
  base:
    cmd: {python} make.py base models/base metrics/base.json
    params: [base]
    outs: [models/base, metrics/base.json]
  problems:
    foreach: ${{problems}}
    do:
      cmd: {python} make.py problems data/problems/${{key}}.jsonl
      deps: [data/seeds]
      params: ["problems.${{key}}", {{"${{item.tracked}}": ["problems.${{key}}"]}}]
      outs: ["data/problems/${{key}}.jsonl"]
  filter:
    foreach: ${{filter}}
    do:
      cmd: {python} make.py filter data/filter/${{key}}.jsonl data/filter/${{key}}.rejected.jsonl
      deps: ["data/${{item.data}}.jsonl"]
      params: ["filter.${{key}}", {{"${{item.tracked}}": ["filter.${{key}}"]}}]
      outs: ["data/filter/${{key}}.jsonl", "data/filter/${{key}}.rejected.jsonl"]
  sft:
    foreach: ${{sft}}
    do:
      cmd: {python} make.py sft models/sft/${{key}} metrics/sft/${{key}}.json
      deps: ["models/${{item.parent}}", "data/${{item.data}}.jsonl"]
      params: ["sft.${{key}}", {{"${{item.tracked}}": ["sft.${{key}}"]}}]
      outs: ["models/sft/${{key}}", "metrics/sft/${{key}}.json"]
  answer:
    matrix: {{rung: "${{report.rungs}}"}}
    cmd: {python} make.py answer data/answer/${{item.rung}}
    deps: ["models/${{item.rung}}"]
    params: [answer, report.benchmarks]
    outs: ["data/answer/${{item.rung}}"]
  benchmark:
    cmd: {python} make.py benchmark data/benchmark
    deps: [data/answer]
    params: [benchmark, report.benchmarks, report.rungs]
    outs: [data/benchmark]
  report:
    cmd: {python} make.py report report/table.json
    deps: [data/benchmark]
    params: [report]
    outs: [report/table.json: {{cache: false}}]
"""
MAKE = """
import json, pathlib, shutil, sys, yaml
params = yaml.safe_load(open("params.yaml"))
kind, *outs = sys.argv[1:]
paths = [pathlib.Path(out) for out in outs]
for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
r = params["sft"]["words"]["lora"]["r"]
made = [r, params["answer"]["quiz"]["max_new_tokens"]]
def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\\n")
def rows(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\\n" for value in values))
if kind in ("base", "sft"):
    write(paths[0] / "rung.json", {"rung": kind, "r": r})
    trained = {"memory_gb": 2.5, "tokens_per_second": 50.0} if kind == "sft" else {}
    write(paths[1], {"seconds": 100.0 + r if kind == "sft" else 3.0, "device": "cpu", **trained})
elif kind == "problems":
    rows(paths[0], [{"id": name, "split": "train"} for name in ("red", "blue", "red-again")])
elif kind == "filter":
    rows(paths[0], [{"id": "red", "passed": [True]}, {"id": "blue", "passed": [True]}])
    rows(paths[1], [{"filter": "exact", "reason": "same as red", "id": "red-again"}])
elif kind == "answer":
    rows(paths[0] / "quiz.jsonl", [{"key": "q1", "tokens": 7, "made": made}, {"key": "q2", "tokens": 5}])
elif kind == "benchmark":
    for rung in params["report"]["rungs"]:
        rows(paths[0] / f"quiz/{rung}.jsonl", [{"key": "q1", "tokens": [7], "made": made}])
elif kind == "report":
    def score(rung):
        value = 20.0 if rung == "base" else 30.0 + r
        headline = {"name": "solved", "measures": ["solved"], "unit": "%", "better": "higher"}
        made_by = {"rows": params["answer"]["quiz"]["rows"], "of": 128, "headline": headline, "resamples": 10000}
        return {"score": value, "interval": [value - 5, value + 5], "made_by": made_by, "against_baseline": None}
    write(paths[0], [
        {"rung": rung, "method": rung.partition("/")[0], "parent": "" if rung == "base" else "base", "baseline": "",
         "benchmarks": {"quiz": score(rung)}}
        for rung in params["report"]["rungs"]
    ])
"""
PARAMS = """
defaults:
  sft:
    parent: base
    trainer: {seed: 42}
base: {source: data/raw/base}
problems:
  words: {count: 3, seed: 7}
filter:
  words:
    data: problems/words
    steps: [finished: , exact: ]
sft:
  words:
    data: filter/words
    lora: {r: 16}
    trainer: {learning_rate: 0.001}
answer: {quiz: {rows: 64, max_new_tokens: 40}}
benchmark: {quiz: {}}
report: {benchmarks: [quiz], rungs: [base, sft/words]}
"""


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


def change(old: str, new: str) -> None:
    """Replace a text in params.yaml, and write links.yaml again."""
    path = Path("params.yaml")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    write_links(read_written())


def reproduced(subject: str) -> None:
    """Run the pipeline, and commit the result with a tag of the same name."""
    with Repo() as repo:
        repo.reproduce()
    git("add", "-A")
    git("commit", "-qm", subject)
    git("tag", subject)


@functools.cache
def built() -> Path:
    """Build the project once per process; tests copy it."""
    home, here = Path(tempfile.mkdtemp(prefix="recorded-")), Path.cwd()
    os.chdir(home)
    try:
        git("init", "-q", "-b", "main")
        git("config", "user.email", "user@example.org")
        git("config", "user.name", "user")
        with Repo.init():
            pass
        Path("make.py").write_text(MAKE)
        Path("dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
        Path("params.yaml").write_text(PARAMS)
        Path("stages").mkdir()
        for name in ("base", "problems", "filter", "sft", "answer", "benchmark", "report"):
            Path(f"stages/{name}.py").touch()
        Path("constraints.txt").write_text("torch==2.13.0 \\\n    --hash=sha256:00\ntrl==1.16.0\n")
        write_links(read_written())
        write_rows(Path("data/seeds/words.jsonl"), [{"word": "red"}])
        reproduced("v1")
        with Repo() as repo:
            run_experiment(repo, params=["sft.words.lora.r=4"], name="rank4")
        git("checkout", "-q", "--force", "main")
        change("max_new_tokens: 40", "max_new_tokens: 24")
        reproduced("v2")
    finally:
        os.chdir(here)
    return home


def copied(folder: Path) -> Path:
    """Copy the project into a folder, and return the copy."""
    return Path(shutil.copytree(built(), folder / "project", symlinks=True))
