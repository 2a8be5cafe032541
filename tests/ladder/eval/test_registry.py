import sys
from pathlib import Path

import pytest

import benchmarks
from ladder.eval.benchmark import Question
from ladder.eval.registry import asked, benchmark, names
from ladder.pipeline.stage import UserError

MODULE = """
from ladder.eval.benchmark import Question
from ladder.eval.measure import Measure

def of(unit):
    return Measure("", unit, "higher", lambda row: row["x"], lambda row: 1.0, unit == "%")

MEASURES = {"one": of("%"), "two": of("%"), "grade": of("of 10")}
HEADLINE = {headline}
MEANS = {"both": ("two", "one")}

def questions(rows):
    return [Question(row["key"], tuple(row["turns"]), "all", row) for row in rows]

def score(questions, answers, tools):
    return []
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Add a module `made` to the benchmarks, with this headline."""
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])

    def write(headline):
        (tmp_path / "made.py").write_text(MODULE.replace("{headline}", repr(headline)))
        monkeypatch.delitem(sys.modules, "benchmarks.made", raising=False)
        return benchmark("made")

    yield write
    sys.modules.pop("benchmarks.made", None)


@pytest.mark.parametrize(
    ("headline", "title", "numbers"),
    [
        (("two",), "two", ["two", "both", "one", "grade"]),
        (("two", "one"), "both", ["both", "one", "two", "grade"]),
        (("one", "two"), "score", ["score", "both", "one", "two", "grade"]),
    ],
)
def test_a_headline_is_called_as_its_measure_or_its_mean(written, headline, title, numbers):
    found = written(headline)
    assert found.title == title and list(found.numbers) == numbers
    assert found.numbers[title] == headline


@pytest.mark.parametrize(
    ("headline", "said"), [((), "expected names of MEASURES"), (("no",), "MEASURES"), (("one", "grade"), "units")]
)
def test_refuses_a_mean_of_what_does_not_belong_together(written, headline, said):
    with pytest.raises(UserError, match=rf"benchmarks/made.py: HEADLINE: .*{said}"):
        written(headline)


def test_refuses_an_unknown_benchmark_and_names_those_there_are():
    with pytest.raises(UserError, match="is named 'ifevall' .did you mean 'ifeval'..: benchmarks/ has .*ifeval"):
        benchmark("ifevall")


def test_every_benchmark_keeps_the_contract():
    for name in names():
        found = benchmark(name)
        assert found.title in found.numbers and callable(found.questions) and callable(found.score)


def test_asked_refuses_a_key_that_occurs_twice_and_a_question_without_a_turn(written):
    found, path = written(("one",)), Path("task.jsonl")
    with pytest.raises(UserError, match="task.jsonl: duplicate key 'a'"):
        asked(found, [{"key": "a", "turns": ["?"]}] * 2, path)
    with pytest.raises(UserError, match="task.jsonl: key 'a': no question"):
        asked(found, [{"key": "a", "turns": []}], path)


def test_a_question_may_be_of_several_groups():
    assert Question("a", ("?",), "keywords + language").groups == ["keywords", "language"]
    assert Question("a", ("?",), "maths").groups == ["maths"]
