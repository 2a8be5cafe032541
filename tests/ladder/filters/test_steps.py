import pytest

from ladder.filters.steps import FilterContext, parse, passes


def test_steps_have_a_label_each_and_defaults_of_their_own():
    steps = parse([{"exact": None}, {"length": {"min": 1, "max": 3}}, {"exact": {}}, {"decontaminate": {"ngram": 9}}])
    assert [(step.label, step.kind) for step in steps] == [
        ("exact", "rows"),
        ("length", "row"),
        ("exact-2", "rows"),
        ("decontaminate", "row"),
    ]
    assert steps[3].parameters == {"ngram": 9, "common": 10, "covers": 0.3}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"length": {"min": 1}}, "length: expected max, min, got {'min': 1} (max: missing)"),
        ({"length": {"min": "x", "max": 2}}, "(min: expected a valid integer"),
        ({"length": {"min": 5, "max": 1}}, "length: min: expected at most max, 1, got 5"),
        ({"repetition": {"ngram": 0, "max": 0.5}}, "(ngram: expected a value greater than or equal to 1"),
        ({"language": {"part": "all", "keep": ["en"], "sure": 50}}, "(sure: expected a value less than or equal to 1"),
        ({"top_ngrams": {"max": {0: 0.2}}}, "(max.0.[key]: expected a value greater than or equal to 1"),
        ({"exact": {"by": 1}}, "exact: expected no parameters, got {'by': 1} (by: no such key)"),
        ({"decontaminate": {"ngram": 8, "benchmarks": {}}}, "decontaminate: expected common, covers, ngram"),
        ({"exact": None, "finished": None}, "expected one filter with its parameters"),
    ],
)
def test_parameters_fit_the_signature(step, said):
    with pytest.raises(ValueError) as error:
        parse([step])
    assert said in str(error.value)


def test_filters_of_all_rows_part_the_passes():
    def cut(*names):
        steps = parse([{name: {"per_prompt": 1} if name == "best" else None} for name in names])
        return [[step.label for step in part] for part in passes(steps)]

    assert cut("finished", "verified") == [["finished", "verified"]]
    assert cut("exact", "best") == [[], ["exact"], ["best"]]
    assert cut("finished", "exact", "verified", "best") == [["finished"], ["exact"], ["verified"], ["best"]]


def test_a_filter_gets_what_it_asks_for(tmp_path):
    def asks(row, *, base, min):
        raise AssertionError

    given = FilterContext(tmp_path / "task", tmp_path / "model", tmp_path / "base", tmp_path / "prompts")
    assert given.arguments(asks) == {"base": tmp_path / "base"}
