from collections import Counter

import pytest
from huggingface_hub import DatasetCard

from conftest import assistant, user
from ladder.report.data_card import page, size
from ladder.report.histograms import spread


def facts(**changes):
    numbers = spread(Counter({3: 2}))
    card = {
        "name": "own",
        "data": "pairs/own",
        "title": "Own pairs",
        "description": "For tests.",
        "languages": ["en", "de"],
        "sha256": "ab" * 32,
        "bytes": 1234567,
        "rows": 2,
        "type": ["prompt", "chosen", "rejected"],
        "columns": {"prompt": 2, "chosen": 2, "rejected": 2, "edited": 2},
        "true": {"edited": 1},
        "sources": [
            {"name": "hh", "rows": 1, "origin": "hub:org/hh@abc", "license": "MIT"},
            {"name": "", "rows": 1, "origin": "made here by `pairs@own`", "license": "apache-2.0"},
        ],
        "lengths": {
            part: {unit: numbers for unit in ("characters", "words", "tokens")} for part in ("prompt", "chosen")
        },
        "turns": {"2": 2},
        "checks": {},
        "duplicates": {"exact": 1, "near": 0, "jaccard": 0.8, "ngram": 5},
        "contamination": {"ngram": 8, "benchmarks": {"ifeval": 1}, "spans": [{"row": "a", "span": "in ifeval: x y"}]},
        "balance": {
            "chosen_longer_by_words": 2.0,
            "chosen_longer_low": -1.0,
            "chosen_longer_high": 5.0,
            "chosen_longer_percent": 50.0,
        },
        "examples": [
            {"id": "a", "prompt": user("Run ```ls```"), "chosen": assistant("x" * 800), "rejected": assistant("No.")}
        ],
    }
    return {**card, **changes}


def test_the_hub_reads_the_header():
    data = DatasetCard(page(facts())).data
    assert data.license == ["apache-2.0", "mit"]
    assert data.language == ["en", "de"]
    assert data.pretty_name == "Own pairs"
    assert data.size_categories == ["n<1K"]
    assert data.tags == ["conversational", "preference"]
    assert data.configs == [{"config_name": "default", "data_files": "own.jsonl"}]
    one = facts(sources=facts()["sources"][:1], type=["messages"], examples=[])
    assert DatasetCard(page(one)).data.license == "mit"


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (9_999_999, "1M<n<10M"),
        (10_000_000, "n>10M"),
    ],
)
def test_the_hubs_size_categories(rows, category):
    assert size(rows) == category


def test_a_page_says_what_was_measured():
    lines = page(facts()).splitlines()
    assert "| hh | 1 | 50.0% | MIT |" in lines
    assert "| made here by `pairs@own` | 1 | 50.0% | apache-2.0 |" in lines
    assert "- hh: hub:org/hh@abc" in lines
    assert "| `edited` | 2 | 1 |" in lines
    assert "| chosen, tokens | 3.0 | 3 | 3 | 3 | 3 |" in lines
    assert "| tokens of the base model | 12 |" in lines
    assert "| ifeval | 1 |" in lines
    assert "- row `a`, in ifeval: x y" in lines
    assert "| exact duplicates, ignoring case and whitespace | 1 (50.0%) |" in lines
    assert (
        "The chosen answer is the longer one in 50.0% of the pairs, by 2.0 words in the mean (95% interval over "
        "prompts: -1.0 to 5.0)." in lines
    )
    assert "````text" in lines  # the prompt has a fence of its own
    assert f"{'x' * 700} […]" in lines
    assert "## Constraints" not in lines


def test_constraints_are_drawn_where_rows_have_them():
    lines = page(facts(checks={"kinds": {"lowercase": 1}, "of_a_row": {"0": 1, "1": 1}})).splitlines()
    assert "| `lowercase` | 1 | 50.0% |" in lines


def test_the_models_of_endpoints_are_named():
    lines = page(facts(models={"org/big": 1})).splitlines()
    assert "| `org/big` | 1 | 50.0% |" in lines
    assert not any("endpoints" in line for line in page(facts()).splitlines())


def test_an_unknown_license_is_reported():
    unknown = [{"name": "found", "rows": 2, "origin": "not among the entries of `source`", "license": "unknown"}]
    assert "A license is unknown: do not publish these rows before it is known." in page(facts(sources=unknown))
