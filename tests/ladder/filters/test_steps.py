import pytest

from ladder.filters.steps import FilterContext, parse, passes


def test_steps_have_a_label_each_and_defaults_of_their_own():
    steps = parse(
        [{"exact": None}, {"length": {"least": 1, "most": 3}}, {"exact": {}}, {"decontaminate": {"ngram": 9}}]
    )
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
        ({"length": {"least": 1}}, "length takes least, most, got {'least': 1} (most: Field required)"),
        ({"length": {"least": "x", "most": 2}}, "(least: expected a valid integer"),
        ({"length": {"least": 5, "most": 1}}, "length: least is 5, which is more than most, 1"),
        ({"repetition": {"ngram": 0, "most": 0.5}}, "(ngram: expected a value greater than or equal to 1"),
        ({"language": {"part": "all", "keep": ["en"], "sure": 50}}, "(sure: expected a value less than or equal to 1"),
        ({"top_ngrams": {"most": {0: 0.2}}}, "(most.0.[key]: expected a value greater than or equal to 1"),
        ({"exact": {"by": 1}}, "exact takes no parameters, got {'by': 1} (by: Extra inputs are not permitted)"),
        ({"decontaminate": {"ngram": 8, "benchmarks": {}}}, "decontaminate takes common, covers, ngram"),
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
    def asks(row, *, base, least):
        raise AssertionError

    given = FilterContext(tmp_path / "task", tmp_path / "model", tmp_path / "base", tmp_path / "prompts")
    assert given.arguments(asks) == {"base": tmp_path / "base"}
