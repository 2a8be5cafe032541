"""The card's header is read by huggingface_hub, and its numbers are those of the tracked files."""

import json

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from ruamel.yaml import YAML

from conftest import write_files
from ladder.__main__ import main
from ladder.pipeline.stage import UserError
from ladder.ship.licenses import base_license
from ladder.ship.model_card import card

SOURCE = "hub:org/pico@0123abc"

WHEEL = "wheel:"
"""Prefix of a source in a package; in one word, supply/data.yaml would have to name the package."""


def stage(outs, deps=(), **params):
    return {
        "deps": [{"path": path, "md5": f"{path}-md5", "size": 10} for path in deps],
        "params": {"params.yaml": params},
        "outs": [{"path": path, "md5": f"{path}-md5", "size": 10} for path in outs],
    }


LOCK = {
    "stages": {
        "base": stage(["models/base"], base={"source": SOURCE, "dtype": "float32"}),
        "source@web": stage(
            ["data/source/web.jsonl"], **{"source.web": {"source": "hub:datasets/o/web@1", "license": "MIT"}}
        ),
        "filter@chat": stage(
            ["data/filter/chat.jsonl"], ["data/source/web.jsonl"], **{"filter.chat": {"data": "source/web"}}
        ),
        "sft@chat": stage(
            ["models/sft/chat"],
            ["code/sft.txt", "data/filter/chat.jsonl", "models/base"],
            **{"sft.chat": {"parent": "base", "data": "filter/chat", "trainer": {"learning_rate": 0.001}}},
        ),
        "preferences@p": stage(
            ["data/preferences/p.jsonl"],
            ["models/sft/chat"],
            **{"preferences.p": {"model": "sft/chat", "endpoint": None}},
        ),
        "dpo@words": stage(
            ["models/dpo/words"],
            ["data/preferences/p.jsonl", "models/sft/chat", "models/base"],
            **{"dpo.words": {"parent": "sft/chat", "data": "preferences/p"}},
        ),
        "answer@dpo/words": stage(["data/answer/dpo/words"], answer={"quiz": {"rows": 64, "max_new_tokens": 40}}),
    }
}


def result(score, low, high, unit="%", **more):
    headline = {"name": "solved", "measures": ["solved"], "unit": unit, "better": "higher"}
    made_by = {"rows": 64, "of": 128, "headline": headline, **more}
    return {"score": score, "interval": [low, high], "made_by": made_by, "against_baseline": None}


CHANGE = {"difference": 12.5, "low": 1.25, "high": 23.4, "p": 0.0, "p_holm": 0.0, "gained": 9, "lost": 1, "n": 64}
TABLE = [
    {
        "rung": "dpo/words",
        "method": "dpo",
        "parent": "sft/chat",
        "baseline": "sft/chat",
        "benchmarks": {
            "quiz": {**result(39.06, 28.12, 51.56), "against_baseline": {**CHANGE, "verdict": "improved"}},
            "graded": result(5.5, 5.4, 5.6, "of 10", judge={"parameters": 134515008}),
        },
    }
]


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    """A clone with the tracked files alone: no models, no data."""
    monkeypatch.chdir(tmp_path)
    write_files({"report/table.json": json.dumps(TABLE), "dvc.lock": ""})
    with (tmp_path / "dvc.lock").open("w") as file:
        YAML().dump(LOCK, file)
    return tmp_path


def test_the_header_is_valid_metadata_with_the_scores(tracked):
    data = ModelCard(card("dpo/words")).data
    index = ModelCard(card("dpo/words")).data.to_dict()["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == "dpo/words" and len(results) == 1
    assert (results[0].dataset_type, results[0].metric_type, results[0].metric_value) == ("quiz", "solved", 39.06)
    assert results[0].metric_name == "solved (%) [95% CI 28.1 to 51.6]"
    assert results[0].dataset_name == "quiz (64 of 128 questions)"
    assert (data.base_model, data.license, data.pipeline_tag) == ("org/pico", "unknown", "text-generation")
    assert data.tags == ["ladder", "sft", "dpo"]
    assert ModelCard(card("dpo/words", license="mit")).data.license == "mit"


def test_lineage_scores_licenses_and_settings_come_from_tracked_files(tracked):
    text = card("dpo/words")
    assert "Lineage: `base` → `sft/chat` → `dpo/words`." in text
    data = "data/preferences/p.jsonl (md5 data/prefere)"
    assert f"| `dpo/words` | dpo | sft/chat | {data} | not here | `models/dpo/words-md5` |" in text
    assert (
        "| `sft/chat` | sft | base | data/filter/chat.jsonl (md5 data/filter/) | not here | `models/sft/chat-md5` |"
        in text
    )
    assert "| quiz | solved | % | 39.1 | 28.1 to 51.6 | 64 | 128 | 1 |" in text
    assert "| quiz | +12.5 [1.2, 23.4] | below 0.00001 | 64 | improved |" in text
    assert "Left out: graded, graded by a judge that is too small to measure a model." in text
    assert f"| base model | {SOURCE} | unknown |  |" in text
    assert "| data/source/web.jsonl | hub:datasets/o/web@1 | mit |  |" in text
    assert "| data/filter/chat.jsonl | made here by filter@chat | unknown |  |" in text
    assert "| data/preferences/p.jsonl | made here by preferences@p | unknown | answers by the rung sft/chat |" in text
    assert "A license is unknown: do not publish before it is known." in text
    assert "  learning_rate: 0.001" in text and "| quiz | max_new_tokens: 40, rows: 64, temperature: 0.0 |" in text


def test_licenses_are_those_of_data_cards_and_of_the_list_of_sources(tracked):
    sources = [
        {"name": "", "rows": 3, "origin": "", "license": "apache-2.0"},
        {"name": "web", "rows": 1, "license": "MIT"},
    ]
    found = {"data": "filter/chat", "name": "c", "title": "Chats", "rows": 4, "sources": sources}
    known = [
        {"name": "Pico", "license": "Apache-2.0", "sources": ["hub:org/pico"]},
        {"sources": ["wheel:one/a"], "license": "MIT"},
    ]
    write_files({"data/card/c.json": json.dumps(found), "supply/data.yaml": json.dumps(known)})
    text = card("dpo/words")
    note = "Chats: 4 rows; data card data/card/c.md"
    assert f"| data/filter/chat.jsonl | made here by filter@chat | apache-2.0, mit | {note} |" in text
    assert ModelCard(text).data.license == "apache-2.0"
    assert base_license(f"{WHEEL}one==1.0/a/model.gguf").license == "mit"
    assert base_license("hub:org/pico2@1").license == "unknown"


def test_a_rung_without_scores_has_a_card_that_states_it(tracked):
    text = card("sft/chat")
    assert "The report of this ladder has no score of this rung." in text
    assert "model-index" not in text


def test_an_unknown_rung_is_refused(tracked):
    with pytest.raises(UserError, match="RUNG: sft/gone: neither models/sft/gone/rung.json nor an output in dvc.lock"):
        card("sft/gone")


def test_the_identity_and_the_quantization_of_a_rung_that_is_here(repository):
    text = card("sft/rounded")
    identity = json.loads((repository / "models/sft/words/rung.json").read_text())["parents"]["base"]
    assert f"| `base` | base |  |  | `{identity[:12]}` |" in text
    assert "quantization_config=BitsAndBytesConfig(**{'load_in_4bit': True" in text
    assert ModelCard(text).data.library_name == "peft" and ModelCard(text).data.base_model_relation == "adapter"
    assert 'AutoModelForCausalLM.from_pretrained("org/pico", revision="0123abc", dtype="auto"' in text


def test_the_command_prints_or_writes_the_card(tracked, capsys):
    main(["card", "models/dpo/words"])
    assert capsys.readouterr().out == card("dpo/words")
    main(["card", "dpo/words", "--to", "README.md", "--license", "mit"])
    assert (tracked / "README.md").read_text() == card("dpo/words", license="mit")
