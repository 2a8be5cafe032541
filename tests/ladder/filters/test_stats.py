import json

from conftest import assistant, user
from ladder.filters.decontamination import Index
from ladder.filters.stats import Tally, funnel, metrics, read_tally, write_samples, write_tally

TALLY = Tally(
    {
        ("in", "", "oasst"): 6,
        ("in", "", ""): 4,
        ("rejected", "length", "oasst"): 2,
        ("rejected", "decontaminate", ""): 1,
        ("kept", "", "oasst"): 4,
        ("kept", "", ""): 3,
        ("edited", "", ""): 2,
    }
)


def test_metrics_by_filter_and_by_source():
    assert metrics(TALLY, ["length", "decontaminate"]) == {
        "in": 10,
        "kept": 7,
        "edited": 2,
        "contaminated": 0,
        "rejected": {"length": 2, "decontaminate": 1},
        "sources": {
            "none": {"in": 4, "kept": 3, "rejected": {"length": 0, "decontaminate": 1}},
            "oasst": {"in": 6, "kept": 4, "rejected": {"length": 2, "decontaminate": 0}},
        },
    }
    assert "sources" not in metrics(Tally({("in", "", ""): 3, ("kept", "", ""): 3}), [])


def test_the_funnel_is_a_table_of_what_is_left():
    assert funnel(TALLY, ["length", "decontaminate"]) == "step\trows\nin\t10\nlength\t8\ndecontaminate\t7\n"


def test_a_tally_is_kept_whole(tmp_path):
    write_tally(tmp_path / "counts.json", TALLY)
    assert read_tally(tmp_path / "counts.json") == TALLY


def test_samples_show_the_span_and_are_the_same_in_whatever_shards_they_lie(tmp_path):
    rows = [
        {
            "filter": "decontaminate",
            "reason": "in quiz: red green blue",
            "id": f"row-{number}",
            "source": {"name": "oasst", "row": number},
            "prompt": user("Which colors?"),
            "completion": assistant(f"{'long ' * 200}Red, green;  BLUE and {number}. {'more ' * 200}"),
        }
        for number in range(9)
    ]
    rows[3]["reason"] = "in quiz: which colors"

    def written(name, parts):
        for place, part in enumerate(parts):
            (tmp_path / f"{name}.{place}").write_text("".join(json.dumps(row) + "\n" for row in part))
        paths = [tmp_path / f"{name}.{place}" for place in range(len(parts))]
        write_samples(tmp_path / f"{name}.md", TALLY, {"decontaminate": paths})
        return (tmp_path / f"{name}.md").read_text()

    text = written("one", [rows])
    assert text == written("three", [rows[:2], rows[2:3], rows[3:]])
    assert text.startswith(
        "| filter | in | rejected | left | of none | of oasst |\n|---|---:|---:|---:|---:|---:|\n"
        "| decontaminate | 10 | 1 | 9 | 1 | 0 |\n\n## decontaminate\n\n"
        "- 8 × in quiz: red green blue\n- 1 × in quiz: which colors\n"
    )
    assert text.count("### row-") == 5
    assert text.count("⟦") == 5
    assert "⟦Red, green;  BLUE⟧ and" in text
    assert "> …" in text


def test_a_rejected_prompt_without_an_answer_has_nothing_below_it(tmp_path):
    row = {"reason": "in quiz: red green blue", "id": "ask-1", "prompt": user("Say red green blue.")}
    (tmp_path / "rejected").write_text(json.dumps(row) + "\n")
    tally = Tally({("in", "", ""): 1, ("rejected", "decontaminate", ""): 1})
    write_samples(tmp_path / "page.md", tally, {"decontaminate": [tmp_path / "rejected"]})
    page = (tmp_path / "page.md").read_text()
    assert page.endswith("### ask-1\n\n**in quiz: red green blue**\n\n> Say ⟦red green blue⟧.\n")


def test_of_a_long_run_that_a_reason_cuts_short_the_words_that_it_shows_are_marked(tmp_path):
    asked = " ".join(f"w{n}" for n in range(60))
    row = {"id": "ask-1", "prompt": user(asked)}
    found = Index({"quiz": [{"prompt": asked}]}, 8).found(row)
    assert found and found.endswith(" w39 ... (60 words)")
    (tmp_path / "rejected").write_text(json.dumps({"reason": found, **row}) + "\n")
    write_samples(tmp_path / "page.md", TALLY, {"decontaminate": [tmp_path / "rejected"]})
    assert "> ⟦w0 w1 " in (tmp_path / "page.md").read_text() and " w39⟧ w40 " in (tmp_path / "page.md").read_text()
