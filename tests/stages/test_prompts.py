"""The grammar on the repository's own seeds, and on seeds with one fault."""

import json
import re
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ladder.data.jsonl import read_rows
from ladder.pipeline.stage import UserError
from ladder.verifiers.constraints import KINDS, arguments, meets
from ladder.verifiers.repair import repair
from stages.prompts import Params, agree, main

SEEDS = Path(__file__).parents[2] / "data" / "seeds"
COUNT = {"heldout": 300, "sft": 2500, "preferences": 1200}

ANSWERS = [
    "Start early and keep it simple. A quiet corner, a little light and a cup of tea are enough for the first "
    "hour, and they cost nothing. Ask somebody who has done it before, because they know which mistakes to "
    "avoid. Write down what you learn, even if it seems small. After a week you will see that the hard parts "
    "have become easier, and the rest is a matter of habit. If something goes wrong, take a break and try again "
    "the next day. Most people give up too soon. Tell a friend about your plan, so that you have a reason to go on.",
    "Sure! Here are some ideas:\n\n1. **Plan ahead**: Make a list of what you need and check the prices.\n"
    "2. **Ask for help**: Your neighbors may have tools that you can borrow.\n3. **Start small**: Do one part "
    "at a time, and rest in between.\n4. **Enjoy it**: Music makes every job lighter.\n\nI hope that these ideas "
    "are of use to you. They work in summer and in winter, and you can change them as you like.",
    "Dear Anna,\n\nI am writing to tell you about the plan for Saturday. We meet at ten in front of the station, "
    "and we walk from there to the lake. Please bring something to eat and a warm coat, because the wind can be "
    "cold near the water. Tom will carry the drinks. The children can swim if the sun comes out. We want to be "
    "back before it gets dark.\n\nLet me know if you can come.\n\nBest wishes,\nMaria",
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    main(Params(count=COUNT, seed=1), SEEDS, path)
    return read_rows(path)


def text(row):
    return row["prompt"][0]["content"]


def test_rows_have_the_form_that_the_next_stages_read(rows):
    assert Counter(row["split"] for row in rows) == COUNT
    assert rows[312]["id"] == "sft-00012"
    assert rows[0].keys() == {"id", "split", "prompt", "checks"}
    assert all(row["prompt"] == [{"role": "user", "content": text(row)}] for row in rows)
    assert Counter(len(row["checks"]) for row in rows).keys() == {1, 2, 3}


def test_prompts_are_distinct_and_no_task_is_in_two_splits(rows):
    assert len({text(row) for row in rows}) == 4000
    assert len({row["id"] for row in rows}) == 4000
    tasks: dict[str, set[str]] = {}
    for row in rows:
        for line in text(row).split("\n\n"):
            tasks.setdefault(line, set()).add(row["split"])
    for row in rows:
        if row["checks"][0]["kind"] == "repeats_request":
            assert tasks[text(row).split("\n\n")[0]] == {row["split"]}


def test_every_kind_occurs_and_its_checks_are_valid(rows):
    kinds = Counter(check["kind"] for row in rows for check in row["checks"])
    assert kinds.keys() == KINDS.keys()
    assert min(kinds.values()) >= 80
    for check in (check for row in rows for check in row["checks"]):
        assert arguments(check) == {name: value for name, value in check.items() if name != "kind"}


def test_no_prompt_contradicts_itself(rows):
    for row in rows:
        kinds = [check["kind"] for check in row["checks"]]
        assert all(agree(one, other) for one, other in combinations(kinds, 2))
    for one, other in [
        ("lowercase", "uppercase"), ("json_only", "bullets"), ("words_at_least", "words_at_most"),
        ("one_of", "quoted"), ("ends_with", "postscript"), ("in_language", "uppercase"),
    ]:  # fmt: skip
        assert not agree(one, other)
        assert not agree(other, one)
    assert agree("bullets", "highlights")


def test_edits_bring_an_ordinary_answer_to_meet_at_least_half_of_the_prompts(rows):
    repaired = [repair(ANSWERS[number % 3], text(row), row["checks"]) for number, row in enumerate(rows[::10])]
    kept = [(answer, row["checks"]) for answer, row in zip(repaired, rows[::10], strict=True) if answer]
    assert all(all(meets(answer, checks)) for answer, checks in kept)
    assert len(kept) >= 0.5 * len(repaired)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    count = {"heldout": 20, "sft": 50, "preferences": 20}
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        main(Params(count=count, seed=seed), SEEDS, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_an_edited_line_changes_only_the_prompts_that_use_it(rows, tmp_path):
    shutil.copytree(SEEDS, tmp_path / "seeds")
    path = tmp_path / "seeds" / "constraints.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("Do without commas.", "Use no comma at all."))
    main(Params(count=COUNT, seed=1), tmp_path / "seeds", tmp_path / "prompts.jsonl")
    changed = 0
    for before, after in zip(rows, read_rows(tmp_path / "prompts.jsonl"), strict=True):
        assert text(after) == text(before).replace("Do without commas.", "Use no comma at all.")
        changed += before != after
    assert changed == sum("Do without commas." in text(row) for row in rows) > 0


def test_a_split_that_grows_leaves_the_held_out_prompts_alone(rows, tmp_path):
    main(Params(count={**COUNT, "sft": 2600}, seed=1), SEEDS, tmp_path / "prompts.jsonl")
    assert read_rows(tmp_path / "prompts.jsonl")[:2800] == rows[:2800]


def edit(path, change):
    yaml = YAML(typ="safe", pure=True)
    value = yaml.load(path.read_text(encoding="utf-8"))
    change(value)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(value, file)


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("tasks.yaml", lambda seeds: seeds.pop("questions"), r"tasks\.yaml: missing questions"),
        ("tasks.yaml", lambda seeds: seeds["topics"].update(food=[]), r"tasks\.yaml: topics\.food: expected a list"),
        ("tasks.yaml", lambda seeds: seeds["tasks"].append("Cook {meal}."), r"tasks\.yaml: tasks: .*no such slot meal"),
        ("tasks.yaml", lambda seeds: seeds["tasks"].append("Cook {food."), r"tasks\.yaml: tasks: line \d+"),
        ("tasks.yaml", lambda seeds: seeds["tasks"].append(7), r"tasks: line \d+: expected a text .* got 7"),
        ("constraints.yaml", lambda seeds: seeds.pop("bullets"), r"constraints\.yaml: missing bullets"),
        ("constraints.yaml", lambda seeds: seeds.update(rhymes={}), r"constraints\.yaml: no such key rhymes"),
        ("constraints.yaml", lambda seeds: seeds["title"].update(wordings=[]), r"title\.wordings: expected a list"),
        ("constraints.yaml", lambda seeds: seeds["bullets"]["parameters"].update(n=[]), r"bullets\.parameters\.n"),
        (
            "constraints.yaml",
            lambda seeds: seeds["bullets"]["parameters"].update(n=["3"]),
            "expected a value of n, got '3'",
        ),
        ("constraints.yaml", lambda seeds: seeds["bullets"].pop("parameters"), r"bullets: missing parameters"),
    ],
)
def test_seeds_that_do_not_fit_are_refused_by_file_and_key(file, change, named, tmp_path):
    shutil.copytree(SEEDS, tmp_path / "seeds")
    edit(tmp_path / "seeds" / file, change)
    with pytest.raises(UserError, match=named):
        main(Params(count=COUNT, seed=1), tmp_path / "seeds", tmp_path / "prompts.jsonl")
    assert not (tmp_path / "prompts.jsonl").exists()


def test_too_few_lines_are_refused(tmp_path):
    shutil.copytree(SEEDS, tmp_path / "seeds")
    edit(tmp_path / "seeds" / "tasks.yaml", lambda seeds: seeds.update(tasks=["Tell me."], questions=["Is it?"]))
    with pytest.raises(UserError, match="too few lines"):
        main(Params(count=COUNT, seed=1), tmp_path / "seeds", tmp_path / "prompts.jsonl")


@pytest.mark.real
def test_no_eight_words_in_a_row_are_ifevals(rows, ifeval_files):
    def grams(prompt):
        words = re.findall(r"\w+", prompt.lower())
        return {tuple(words[start : start + 8]) for start in range(len(words) - 7)}

    lines = ifeval_files[0].read_text(encoding="utf-8").splitlines()
    theirs = set().union(*(grams(json.loads(line)["prompt"]) for line in lines))
    assert len(theirs) > 10_000
    assert [text(row) for row in rows if grams(text(row)) & theirs] == []
