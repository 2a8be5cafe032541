import json

import pytest
from huggingface_hub import DatasetCard

from conftest import ROOT, assistant, user
from ladder.data.jsonl import write_rows
from stages.card import Params, licensed, main

PARAMS = Params(data="filter/chat", title="Answers", description="For tests.", license="apache-2.0", languages=["en"])
ENTRIES = {"hh": {"source": "hub:org/hh@abc", "license": "MIT"}, "old": {"source": "wheel:a==1/b"}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository whose params.yaml names two sources."""
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "params.yaml").write_text(json.dumps({"source": ENTRIES}))
    (tmp_path / "task").mkdir()
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"question": "Which river runs through the city of Rome?"}])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_card_and_its_numbers_are_written_and_the_same_again(root, base):
    names = ["hh", "old", "lost", "filter/maths", None]
    rows = [
        {
            "id": str(n),
            "prompt": user(f"Say {n}."),
            "completion": assistant(f"It is {n}."),
            **({"source": {"name": name, "row": n}} if name else {}),
        }
        for n, name in enumerate(names)
    ]
    write_rows(root / "chat.jsonl", rows)
    outputs = [root / "card" / "chat.md", root / "card" / "chat.json"]
    main(PARAMS, root / "chat.jsonl", root / "task", base, *outputs)
    first = [path.read_bytes() for path in outputs]
    card = json.loads(first[1])
    assert (card["name"], card["rows"], card["data"]) == ("chat", 5, "filter/chat")
    assert {one["name"]: (one["origin"], one["license"]) for one in card["sources"]} == {
        "hh": ("hub:org/hh@abc", "MIT"),
        "old": ("wheel:a==1/b", "unknown"),
        "lost": ("not among the entries of `source`", "unknown"),
        "filter/maths": ("made here by `filter@maths`", "apache-2.0"),
        "": ("made here by `filter@chat`", "apache-2.0"),
    }
    assert card["tokenizer"] == json.loads((base / "rung.json").read_text())["tokenizer"]
    assert DatasetCard(first[0].decode()).data.license == ["apache-2.0", "mit", "unknown"]
    main(PARAMS, root / "chat.jsonl", root / "task", base, *outputs)
    assert [path.read_bytes() for path in outputs] == first


def test_what_a_stage_of_one_file_makes_is_named_without_an_entry():
    (reported,) = licensed({"": 3}, PARAMS.model_copy(update={"data": "prompts"}), {})
    (own,) = licensed({"mine": 3}, PARAMS, {"mine": {"source": "mine/*.jsonl", "license": "MIT"}})
    assert own == {"name": "mine", "rows": 3, "origin": "data/raw/mine/*.jsonl", "license": "MIT"}
    assert reported == {"name": "", "rows": 3, "origin": "made here by `prompts`", "license": "apache-2.0"}
