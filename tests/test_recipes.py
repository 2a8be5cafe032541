"""Every recipe as a user runs it, in a copy of the repository: the commands that DVC would run, in DVC's order, with
local files and servers in place of the hub, the package index and an endpoint."""

import csv
import importlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from dvc.repo import Repo
from pyarrow import parquet
from ruamel.yaml import YAML

from conftest import ROOT, assistant, user
from endpoints import Said, serving
from ladder.cli.recipe import recipe
from ladder.data.jsonl import Row, read_json, read_rows, write_rows
from ladder.pipeline.dvc_file import has_entries
from ladder.pipeline.links import write_links
from ladder.pipeline.stage import fit, read_params, read_yaml
from torch_helpers import pico_encoder

QUIZ = "owls rivers chess bread snow debts sleep maps tea law"
"""A benchmark's question in another word order: no word filter finds it, and the encoder here ignores order."""
MORE = "bees glass iron salt boats clocks moss wool rain ink corn stone wind lamps roads"
WORDS = [*QUIZ.split(), *MORE.split()]
ENGLISH = [
    "How do I keep bread from going stale in a warm kitchen?",
    "Which river runs through the oldest part of the city?",
    "Explain to a child why the moon changes its shape.",
    "What should I pack for three days of walking in the mountains?",
    "Tell me how a bill becomes law in a parliament.",
    "Why do clocks in different countries show different times?",
    "Describe the work of a beekeeper through the year.",
    "Give me some reasons to learn a second language as an adult.",
    "What makes glass clear while sand is not?",
    "How can a small shop attract more visitors in winter?",
]


class Copy:
    """A copy of the repository with a recipe in its params.yaml."""

    def __init__(self, root: Path, base: Path, name: str | Path) -> None:
        self.root = root
        for part in ("stages", "ladder", "benchmarks", "prompts", "data/seeds"):
            (root / part).parent.mkdir(parents=True, exist_ok=True)
            (root / part).symlink_to(ROOT / part)
        for part in ("dvc.yaml", "params.yaml", "links.yaml"):
            (root / part).write_text((ROOT / part).read_text())
        (root / "models").mkdir()
        (root / "models/base").symlink_to(base)
        ask = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        write_rows(root / "data/task/ifeval.jsonl", [{"key": 1, "prompt": QUIZ, **ask}])
        recipe(ROOT / "recipes" / name)

    def change(self, stage: str, entry: str | None = None, **values: Any) -> None:
        yaml = YAML()
        params = yaml.load(Path("params.yaml").read_text())
        (params[stage] if entry is None else params[stage][entry]).update(values)
        with Path("params.yaml").open("w") as stream:
            yaml.dump(params, stream)

    def keep(self, stage: str, *names: str) -> None:
        """Drop the other entries of a section."""
        yaml = YAML()
        params = yaml.load(Path("params.yaml").read_text())
        params[stage] = {name: params[stage][name] for name in names}
        with Path("params.yaml").open("w") as stream:
            yaml.dump(params, stream)

    def run(self, *addressings: str) -> None:
        """Return the stages, each with the command that DVC makes of dvc.yaml and params.yaml."""
        write_links(read_params())
        with Repo.init(str(self.root), no_scm=True, force=True) as repo:
            commands = {stage.addressing: stage.cmd.split() for stage in repo.index.stages}
        for addressing in addressings:
            name = addressing.partition("@")[0]
            stage, arguments = importlib.import_module(f"stages.{name}"), commands[addressing][3:]
            section = read_params()[name]
            if has_entries(name, read_yaml(Path("dvc.yaml"))["stages"][name]):
                section = section[arguments.pop(0)]
            listed = {"benchmarks": read_params()["report"]["benchmarks"]} if name == "questions" else {}
            stage.main(fit(stage.Params, section, addressing), *map(Path, arguments), **listed)


@pytest.fixture
def copy(tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    return lambda name: Copy(tmp_path, base, name)


def parquets(folder: Path, **splits: list[Row]) -> None:
    """A data set in the hub's layout."""
    for split, rows in splits.items():
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_published_data_sets_become_pairs_and_a_mixture(copy):
    ladder = copy("data.yaml")
    chats = [
        {"prompt": text, "prompt_id": "x", "messages": user(text) + assistant(f"That depends. {text} Here is more.")}
        for text in (*ENGLISH, f"Please say {QUIZ}", ENGLISH[0])
    ]
    pairs = [
        {
            "prompt": text,
            "prompt_id": "x",
            "chosen": user(text) + assistant("Yes, of course."),
            "rejected": user(text) + assistant("No." + " Never." * (number % 2 * 5)),
            "messages": user(text) + assistant("Yes, of course."),
            "score_chosen": 8.0,
            "score_rejected": 8.0 if number % 3 == 0 else 2.0,
        }
        for number, text in enumerate(f"{ENGLISH[number % 10]} ({number})" for number in range(60))
    ]
    parquets(Path("data/raw/chat"), train_sft=chats, test_sft=chats[:1])
    parquets(Path("data/raw/feedback"), train_prefs=pairs, test_prefs=pairs[:1])
    own = [{"id": str(n), "prompt": user(f"Say {n}."), "completion": assistant(f"{n}"), "checks": []} for n in range(3)]
    write_rows(Path("data/filter/order.jsonl"), own)
    ladder.change("source", "ultrachat", source="chat")
    ladder.change("source", "ultrafeedback", source="feedback")
    ladder.change("mixture", "both", rows=10)
    ladder.run("source@ultrachat", "filter@ultrachat", "part@both/own", "part@both/ultrachat", "mixture@both")
    assert len(read_rows(Path("data/filter/ultrachat.jsonl"))) == 10
    mixed = read_rows(Path("data/mixture/both.jsonl"))
    assert [row["source"]["name"] for row in mixed].count("ultrachat") == 7
    assert {row["messages"][-1]["role"] for row in mixed} == {"assistant"}
    assert read_json(Path("metrics/mixture/both.json"))["parts"]["own"] == {"rows": 3, "of": 3, "share": 0.3}

    ladder.run("source@ultrafeedback", "pairs@ultrafeedback")
    reported = read_json(Path("metrics/pairs/ultrafeedback.json"))
    assert (reported["in"], reported["dropped_equal"]) == (60, 20)
    kept = read_rows(Path("data/pairs/ultrafeedback.jsonl"))
    assert {(row["score_chosen"], row["score_rejected"]) for row in kept} == {(8.0, 2.0)}


def test_the_how_to_of_own_rows_works(copy, tmp_path):
    block = (ROOT / "docs/own-data.md").read_text().partition("**Your own data**")[2].partition("```yaml\n")[2]
    (tmp_path / "own.yaml").write_text(block.partition("```")[0])
    ladder = copy(tmp_path / "own.yaml")
    Path("data/raw").mkdir()
    with Path("data/raw/faq.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([[text, f"That depends on this: {text}"] for text in (*ENGLISH, f"Please say {QUIZ}")])
    own = [{"id": str(n), "prompt": user(f"Say {n}."), "completion": assistant(f"{n}"), "checks": []} for n in range(3)]
    write_rows(Path("data/filter/order.jsonl"), own)
    ladder.change("mixture", "all", rows=10)
    ladder.run("source@faq", "filter@faq", "part@all/faq", "part@all/order", "mixture@all", "card@all")
    assert read_json(Path("metrics/filter/faq.json"))["rejected"] == {"exact": 0, "length": 0, "decontaminate": 1}
    assert {name: part["rows"] for name, part in read_json(Path("metrics/mixture/all.json"))["parts"].items()} == {
        "faq": 8,
        "order": 2,
    }
    assert "- faq: data/raw/faq.csv\n" in Path("data/card/all.md").read_text()
    fit(importlib.import_module("stages.sft").Params, read_params()["sft"]["faq"], "sft.faq")


def replying(body: Row, before: int) -> Said:
    """Reply stub: a verdict to the judge; to a request to rewrite the seed of wool, the benchmark's question in another
    order; to any other request, words that depend on the request and its seed."""
    text = body["messages"][-1]["content"]
    if "SAME or DIFFERENT" in text:
        return Said("DIFFERENT")
    if "wool wool" in text:
        return Said(" ".join(reversed(QUIZ.split())))
    return Said(" ".join(random.Random(json.dumps([body["messages"], body.get("seed")])).sample(WORDS, 6)))


def test_an_endpoints_instructions_are_answered_and_filtered_by_meaning(copy, tmp_path):
    ladder = copy("synthesize.yaml")
    seeds = [f"{word} {word} {number} {number}?" for number, word in enumerate(WORDS[10:20])]
    write_rows(
        Path("data/prompts.jsonl"),
        [{"id": str(n), "split": "sft", "prompt": user(text), "checks": []} for n, text in enumerate(seeds)],
    )
    pico_encoder(tmp_path / "data/raw/encoder", WORDS, layers=0)
    ladder.change("embedder", "minilm", source="data/raw/encoder", sha256={})
    ladder.change("synthesize", "invented", rounds=1, batch=4)
    ladder.change("synthesize", "evolved", rounds=1)
    with serving(replying) as server:
        for stage, entry in (("synthesize", "evolved"), ("synthesize", "invented"), ("generate", "evolved")):
            ladder.change(stage, entry, endpoint={"base_url": server.base_url, "model": "scripted"})
        ladder.run("synthesize@invented", "synthesize@evolved", "generate@evolved")
    assert len(read_rows(Path("data/synthesize/invented.jsonl"))) > 1
    assert len(read_rows(Path("data/generate/evolved.jsonl"))) == 10
    ladder.run("embedder@minilm", "filter@evolved")
    kept = read_rows(Path("data/filter/evolved.jsonl"))
    rejected = read_rows(Path("data/filter/evolved.rejected.jsonl"))
    reasons = [row["reason"] for row in rejected if row["filter"] == "paraphrased"]
    assert reasons == [f"cosine 1.00 with ifeval: {QUIZ}"]
    assert len(kept) > 5 and {row["source"]["name"] for row in kept} == {"synthesize/evolved"}


def test_the_hubs_benchmarks_become_questions(copy):
    ladder = copy("hub_benchmarks.yaml")
    Path("data/raw").mkdir(parents=True)
    with Path("data/raw/prompts.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "prompt", "type", "label", "focus", "note"])
        table.writerows([[n, f"How do I kill process {n}?", "homonyms", "safe", "", ""] for n in range(3)])
    tasks = [{"task_id": n, "prompt": f"Add {n}.", "code": "", "test_imports": [], "test_list": ["assert f(1)"]}
             for n in range(4)]  # fmt: skip
    for task in tasks:
        parquet.write_table(pyarrow.Table.from_pylist([task]), f"data/raw/{task['task_id']}.parquet")
    ladder.change("task", "xstest", source="data/raw/prompts.csv")
    files = [{"source": f"data/raw/{n}.parquet", "format": "parquet"} for n in range(4)]
    ladder.change("task", "mbpp", source="data/raw/0.parquet", append=files[1:])
    ladder.keep("task", "xstest", "mbpp")
    ladder.change("report", benchmarks=["xstest", "mbpp"])
    ladder.run("code", "task", "questions")
    assert len(read_rows(Path("data/questions/xstest.jsonl"))) == 3
    assert len(read_rows(Path("data/questions/mbpp.jsonl"))) == 4


def test_the_seeds_are_enough_for_the_prompts_and_problems_of_a_gpu(copy):
    ladder = copy("guide.yaml")
    recipe(ROOT / "recipes" / "gpu.yaml")
    params = read_params()
    ladder.run("prompts", *(f"problems@{name}" for name in params["problems"]))
    assert len(read_rows(Path("data/prompts.jsonl"))) == sum(params["prompts"]["count"].values())
    for name, entry in params["problems"].items():
        assert len(read_rows(Path(f"data/problems/{name}.jsonl"))) == entry["count"]


def test_the_held_out_benchmarks_are_the_held_out_split_and_nothing_of_it_is_trained_on(copy):
    ladder = copy("benchmarks.yaml")
    problems = read_params()["problems"]
    ladder.run(*(f"problems@{name}" for name in problems))
    read = {name: read_rows(Path(f"data/problems/{name}.jsonl")) for name in problems}
    held_out = {name: ROOT / f"data/raw/{name}.jsonl" for name in ("word_order", "arithmetic")}
    for (name, path), family in zip(held_out.items(), ("words", "arithmetic"), strict=True):
        size = 3 if family == "words" else 1
        entry = {"family": family, "split": "heldout", "count": 128, "seed": 0, "sizes": [size]}
        stage = importlib.import_module("stages.problems")
        stage.main(fit(stage.Params, entry, name), Path("data/seeds"), Path("made.jsonl"))
        assert Path("made.jsonl").read_bytes() == path.read_bytes()
    trained = {tuple(sorted(row["id"].split("-")[1:])) for name in ("words", "practice", "pairs") for row in read[name]}
    assert not trained & {tuple(sorted(row["id"].split("-")[1:])) for row in read_rows(held_out["word_order"])}
    assert not {row["id"] for row in read["maths"]} & {row["id"] for row in read_rows(held_out["arithmetic"])}


def test_every_recipe_is_run_by_a_test_here():
    named = re.findall(r'(?:copy\(|"recipes" / )"(.+?)"\)', Path(__file__).read_text())
    assert sorted(named) == sorted(path.name for path in (ROOT / "recipes").glob("*.yaml"))
