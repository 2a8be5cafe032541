from conftest import assistant, user
from ladder import filters


def row(question, answer, **rest):
    return {
        "id": "a",
        "finished": True,
        "edited": False,
        "checks": [],
        "prompt": user(question),
        "completion": assistant(answer),
        **rest,
    }


def test_duplicates_differ_in_case_and_blanks_alone():
    rows = [row("Hi", "Yes  it is"), row("hi ", "yes it\nis"), row("Hi", "yes it was")]
    assert filters.exact(rows) == [None, "duplicate", None]


def test_length_counts_words():
    rows = [row("Hi", "one, two"), row("Hi", "one two three"), row("Hi", "a b c d e")]
    assert filters.length(rows, least=3, most=4) == ["2 words", None, "5 words"]


def test_a_verdict_is_of_the_text_as_it_is():
    checks = [{"kind": "lowercase"}, {"kind": "words_at_most", "n": 2}]
    rows = [row("Hi", "yes it", checks=checks), row("Hi", "Yes it is", checks=checks, passed=[True, True])]
    assert filters.verified(rows) == [None, "misses lowercase, words_at_most"]


def test_repetition_is_the_share_of_words_said_before():
    rows = [row("Hi", "a b c d e f"), row("Hi", "a b c a b c"), row("Hi", "go go go go"), row("Hi", "")]
    assert filters.repetition(rows, ngram=3, most=0.4) == [None, "50% repeated", "75% repeated", None]


def test_the_best_of_a_prompt_is_sampled_rather_than_edited_then_longer():
    rows = [
        row("Hi", "a long edited answer", edited=True),
        row("Hi", "short"),
        row("Hi", "longer answer"),
        row("Ho", "only one", id="b", edited=True),
    ]
    reason = "not the best of its prompt"
    assert filters.best(rows, per_prompt=1) == [reason, reason, None, None]
    assert filters.best(rows, per_prompt=2) == [reason, None, None, None]


def test_only_unfinished_answers_go():
    assert filters.finished([row("a", "b"), row("a", "b", finished=False)]) == [None, "not finished"]


def test_a_run_of_a_benchmarks_words_is_found_and_shown():
    benchmarks = {
        "ifeval": [{"key": 1, "prompt": "Write a poem about the sea, in lower-case!", "kwargs": [{"x": "y z"}]}]
    }
    rows = [
        row("Please write A POEM about the sea in rhyme", "no"),
        row("Write a poem about a river", "Write about the sea"),
        row("Say it", "poem about the sea in lower"),
    ]
    assert filters.decontaminate(rows, ngram=5, benchmarks=benchmarks) == [
        "in ifeval: write a poem about the",
        None,
        "in ifeval: poem about the sea in",
    ]


def test_normalise_keeps_lines_and_drops_blanks():
    assert filters.normalise(" e\u0301t  \r\n\n\n\nb\t\n") == "ét\n\nb"
