"""The ladder's verdicts against lm-eval's IFEval checkers, text by text, and repair on texts with known faults."""

import functools
import json
from decimal import Decimal

import nltk
import pytest

from ladder.pipeline.stage import UserError
from ladder.verifiers.constraints import KINDS, VERDICTS, fits, meets, parameters, result
from ladder.verifiers.repair import EDITS, repair
from ladder.verifiers.sentences import sentences, tidy

PLAIN = (
    "The river was high after the rain, so we took the long way home. My sister carried the basket, and I held "
    "the dog. Nobody spoke about the bridge. In the evening the water fell again, and the old path was dry."
)
LIST = "Here it is:\n\n* one small *step*\n* two\n- three with **bold text**\n\n1. first\n2. second\n"
MARKED = (
    '"<<The River>>\n\nPART 1\nThe U.S. team met NASA and I WENT home.\n\nPart 2\nAsk [name] at [place].\n\n'
    'P. S. Thanks for reading!"'
)
SPLIT = "One answer about the river.\n\n***\n\nMeanwhile, another one.\n***\nA third one.\n\n******\n\nThe last."
TWO = "First, a red one.\n******\nA blue one, with a river."
EMPTY_MIDDLE = "One.\n***\n***\nTwo."
EDGES = "***\nOne.\n***\nTwo.\n***"
JSON = '```json\n{"answer": "The river, the river"}\n```'
SMALL = "this whole answer is written in small letters and talks about the river near our house, nothing else."
BIG = "THIS WHOLE ANSWER IS WRITTEN IN CAPITAL LETTERS AND TALKS ABOUT THE RIVER NEAR OUR HOUSE. NOTHING ELSE."
SPANISH = "El río estaba muy alto después de la lluvia y por eso volvimos a casa por el camino largo."
OPENED = "The start.\n\n'Meanwhile,' he said, the river rose.\n\nIt ended P.P.S. here. I agree."
THREE = "One.\n***\nTwo, about a riv-er.\n\n***\n\nThree with *four* **bold** **marks**."
TEXTS = [THREE, EDGES, PLAIN, LIST, MARKED, SPLIT, TWO, EMPTY_MIDDLE, JSON, SMALL, BIG, SPANISH, OPENED]

SAME = [
    ({"kind": "words_at_least", "n": 20}, "length_constraints:number_words", {"num_words": 20, "relation": "at least"}),
    ({"kind": "words_at_most", "n": 19}, "length_constraints:number_words", {"num_words": 20, "relation": "less than"}),
    ({"kind": "paragraphs", "n": 3, "separator": "***"}, "length_constraints:number_paragraphs", {"num_paragraphs": 3}),
    ({"kind": "paragraphs", "n": 2, "separator": "***"}, "length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    (
        {"kind": "paragraph_opens_with", "n": 3, "paragraph": 2, "word": "meanwhile"},
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "meanwhile"},
    ),
    ({"kind": "includes_words", "words": ["River", "one"]}, "keywords:existence", {"keywords": ["River", "one"]}),
    (
        {"kind": "repeats_word", "word": "one", "n": 2},
        "keywords:frequency",
        {"keyword": "one", "frequency": 2, "relation": "at least"},
    ),
    ({"kind": "avoids_words", "words": ["RIVER"]}, "keywords:forbidden_words", {"forbidden_words": ["RIVER"]}),
    ({"kind": "avoids_words", "words": ["riv"]}, "keywords:forbidden_words", {"forbidden_words": ["riv"]}),
    (
        {"kind": "letter_at_least", "letter": "w", "n": 4},
        "keywords:letter_frequency",
        {"letter": "w", "let_frequency": 4, "let_relation": "at least"},
    ),
    (
        {"kind": "letter_at_most", "letter": "w", "n": 3},
        "keywords:letter_frequency",
        {"letter": "w", "let_frequency": 4, "let_relation": "less than"},
    ),
    ({"kind": "bullets", "n": 3}, "detectable_format:number_bullet_lists", {"num_bullets": 3}),
    ({"kind": "highlights", "n": 2}, "detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ({"kind": "highlights", "n": 3}, "detectable_format:number_highlighted_sections", {"num_highlights": 3}),
    (
        {"kind": "sections", "n": 1, "header": "Part"},
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 1},
    ),
    ({"kind": "title"}, "detectable_format:title", {}),
    ({"kind": "json_only"}, "detectable_format:json_format", {}),
    ({"kind": "placeholders", "n": 2}, "detectable_content:number_placeholders", {"num_placeholders": 2}),
    ({"kind": "postscript", "marker": "P.S."}, "detectable_content:postscript", {"postscript_marker": "P.S."}),
    ({"kind": "postscript", "marker": "P.P.S"}, "detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ({"kind": "two_answers"}, "combination:two_responses", {}),
    (
        {"kind": "repeats_request", "request": " first, A red one. "},
        "combination:repeat_prompt",
        {"prompt_to_repeat": " first, A red one. "},
    ),
    ({"kind": "lowercase"}, "change_case:english_lowercase", {}),
    ({"kind": "uppercase"}, "change_case:english_capital", {}),
    (
        {"kind": "capitals_at_least", "n": 5},
        "change_case:capital_word_frequency",
        {"capital_frequency": 5, "capital_relation": "at least"},
    ),
    (
        {"kind": "capitals_at_most", "n": 2},
        "change_case:capital_word_frequency",
        {"capital_frequency": 3, "capital_relation": "less than"},
    ),
    ({"kind": "no_commas"}, "punctuation:no_comma", {}),
    (
        {"kind": "ends_with", "phrase": "thanks for READING!"},
        "startend:end_checker",
        {"end_phrase": "thanks for READING!"},
    ),
    ({"kind": "quoted"}, "startend:quotation", {}),
    ({"kind": "in_language", "language": "Spanish"}, "language:response_language", {"language": "es"}),
]


@pytest.fixture(scope="module")
def checkers():
    """lm-eval's checkers without NLTK's punkt: the import would download it, and word_tokenize would read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "find", lambda *_: None)
        patch.setattr(nltk, "word_tokenize", functools.partial(nltk.word_tokenize, preserve_line=True))
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

        yield INSTRUCTION_DICT


@pytest.mark.parametrize(("check", "theirs", "given"), SAME, ids=lambda value: str(value))
def test_verdicts_are_those_of_lm_eval(checkers, check, theirs, given):
    checker = checkers[theirs](theirs)
    checker.build_description(**given)
    ours = [meets(text, [check])[0] for text in TEXTS]
    assert ours == [bool(checker.check_following(text)) for text in TEXTS]
    assert len(set(ours)) == 2, "these texts do not tell the verdicts apart"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"kind": "sentences_at_most", "n": 2}, "Dr. Li rang at 3 p.m. Nobody spoke!", "One. Two? Three!"),
        ({"kind": "sentences_at_least", "n": 3}, "One. “Two?” Three, says Mr. Poe", "1. One of two.\n2. Second"),
        ({"kind": "paragraphs", "n": 2, "separator": "blank line"}, "One.\n\nTwo.\n", "One.\nTwo."),
        ({"kind": "numbered_list", "n": 2}, "So:\n1. One\n2) Two", "1. One\n3. Two"),
        ({"kind": "starts_with", "phrase": "Well then:"}, '"well then: yes"', "Yes. Well then: no"),
        ({"kind": "one_of", "options": ["I agree.", "Perhaps."]}, "Well. I agree.", "I agree, mostly"),
    ],
)
def test_kinds_that_lm_eval_lacks(check, good, bad):
    assert meets(good, [check]) == [True]
    assert meets(bad, [check]) == [False]


def test_one_of_agrees_with_lm_eval(checkers):
    checker = checkers["detectable_format:constrained_response"]("")
    checker.build_description()
    options = ["My answer is yes.", "My answer is no.", "My answer is maybe."]
    for text in ("So: My answer is no.", "my answer is no.", "No."):
        assert meets(text, [{"kind": "one_of", "options": options}]) == [checker.check_following(text)]


def test_every_kind_is_tested_and_every_edit_is_a_kind():
    tested = {check["kind"] for check, _, _ in SAME}
    others = {"sentences_at_most", "sentences_at_least", "numbered_list", "starts_with", "one_of"}
    assert tested | others == set(KINDS) == set(VERDICTS) - {"answer", "matches"}
    names = [edit.__name__ for edit in EDITS]
    assert len(names) == len(set(names))
    new_text = {"words_at_least", "letter_at_least", "in_language", "includes_words", "repeats_word", "placeholders"}
    assert set(KINDS) - set(names) == new_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4 * 3 = 12.\n#### 12", "12"),
        ("####12", "12"),
        ("#### 12.", "12"),
        ("#### 12.0", "12"),
        ("#### .5", "0.5"),
        ("#### 1,200", "1200"),
        ("#### $1,234,567.50 in all", "1234567.5"),
        ("#### -3", "-3"),
        ("#### −3", "-3"),
        ("#### -$3", "-3"),
        ("#### $-3", "-3"),
        ("#### +3", "3"),
        ("####\n\n12\nThat took 3 steps.", "12"),
        ("#### 12 apples\nNo, wait.\n#### 13", "13"),
        ("##### 12", "12"),
        ("#### 007", "7"),
        ("12", None),
        ("The answer is 12. ### 12", None),
        ("#### twelve", None),
        ("#### x = 12", None),
        ("#### 12\n####", None),
        ("#### 12\n#### so many", None),
        ("#### 3/4", None),
        ("#### 12 or 13", None),
        ("#### 12, 13", None),
        ("#### 1,2", None),
        ("#### 12 = 4 * 3", None),
        ("#### 1e3", None),
        ("#### 12.3.4", None),
        ("#### ٣", None),
    ],
)
def test_the_last_number_after_the_mark_is_the_result(text, number):
    assert result(text) == (None if number is None else Decimal(number))
    if number is not None:
        assert meets(text, [{"kind": "answer", "value": number}]) == [True]
    assert meets(text, [{"kind": "answer", "value": "99"}]) == [False]


def test_a_known_result_may_be_written_as_an_answer_may():
    assert meets("#### 1200", [{"kind": "answer", "value": "$1,200.00"}]) == [True]


def test_no_edit_makes_a_wrong_result_right():
    checks = [{"kind": "answer", "value": "12"}, {"kind": "no_commas"}]
    assert repair("So, 4 * 3 = 12.\n#### 12", "", checks) == "So 4 * 3 = 12.\n#### 12"
    assert repair("So, 4 * 3 = 13.\n#### 13", "", checks) is None


def test_a_form_is_matched():
    line = {"kind": "matches", "pattern": r"\n#### -?[0-9]+\Z"}
    assert [meets(text, [line])[0] for text in ("Six.\n#### 6", "#### 6", "Six.\n#### 6!")] == [True, False, False]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_fails_everything(text):
    values = {int: 0, str: "***", list[str]: ["x"]}
    for kind in VERDICTS:
        check = {"kind": kind} | {name: values[wanted] for name, wanted in parameters(kind).items()}
        assert meets(text, [check]) == [False]


@pytest.mark.parametrize(
    ("check", "named"),
    [
        ({"kind": "shorter"}, "check: kind: expected one of .*, got 'shorter'"),
        ({"n": 3}, "check: kind: expected one of .*, got"),
        ({"kind": "bullets"}, r"expected parameters \['n'\], got \[\]"),
        ({"kind": "bullets", "n": 3, "m": 1}, r"got \['m', 'n'\]"),
        ({"kind": "bullets", "n": True}, "n: expected a whole number, got True"),
        ({"kind": "avoids_words", "words": "very"}, "words: expected a list of texts"),
        ({"kind": "in_language", "language": "es"}, "language: expected one of"),
        ({"kind": "paragraphs", "n": 2, "separator": "---"}, "separator: expected"),
        ({"kind": "answer", "value": 12}, "answer: value: expected text, got 12"),
        ({"kind": "answer", "value": "twelve"}, "answer: value: expected a number, got 'twelve'"),
        ({"kind": "answer", "value": "1/2"}, "answer: value: expected a number"),
        ({"kind": "matches", "pattern": "(a"}, r"matches: pattern: not a regular expression: missing \), .*got '\(a'"),
    ],
)
def test_a_wrong_check_is_refused(check, named):
    with pytest.raises(UserError, match=named):
        meets("Some text.", [check])


def test_values_fit_their_types():
    assert fits(3, int)
    assert not fits(True, int)
    assert not fits([], list[str])
    assert not fits(["a", 1], list[str])


def test_sentences_and_tidy():
    assert sentences('He said "No!" and left. e.g. this one\nends here. Rest') == [
        'He said "No!"', "and left.", "e.g. this one ends here.", "Rest",
    ]  # fmt: skip
    assert tidy("We all go. No. No. We  all go!\nwe all go.\nThen it was never quite") == "We all go. No. No."
    assert (
        tidy("* red apples from here\n* green pears from there") == "* red apples from here\n* green pears from there"
    )
    assert tidy("1. A full item here.\n\n2. The end of this one is") == "1. A full item here."
    assert tidy("Dear Ann,\n\nCome soon.\n\nYours,\nSam") == "Dear Ann,\n\nCome soon.\n\nYours,\nSam"


EDITED = [
    ({"kind": "words_at_most", "n": 20}, "The river was high after the rain, so we took the long way home."),
    ({"kind": "avoids_words", "words": ["bridge"]}, PLAIN.replace(" Nobody spoke about the bridge.", "")),
    ({"kind": "no_commas"}, PLAIN.replace(",", "")),
    ({"kind": "lowercase"}, PLAIN.lower()),
    ({"kind": "quoted"}, f'"{PLAIN}"'),
    ({"kind": "ends_with", "phrase": "That is all."}, f"{PLAIN} That is all."),
    ({"kind": "title"}, f"<<Old Path>>\n\n{PLAIN}"),
    ({"kind": "json_only"}, json.dumps({"answer": PLAIN}, indent=2)),
    ({"kind": "bullets", "n": 2}, "* {0} {1}\n* {2} {3}"),
    ({"kind": "numbered_list", "n": 4}, "1. {0}\n2. {1}\n3. {2}\n4. {3}"),
    ({"kind": "paragraphs", "n": 2, "separator": "***"}, "{0} {1}\n\n***\n\n{2} {3}"),
    ({"kind": "sections", "n": 2, "header": "Part"}, "Part 1\n{0} {1}\n\nPart 2\n{2} {3}"),
    ({"kind": "postscript", "marker": "P.S."}, "{0} {1} {2}\n\nP.S. {3}"),
    ({"kind": "two_answers"}, "{0} {1} {2} {3}\n\n******\n\n{0} {2}"),
    ({"kind": "sentences_at_most", "n": 3}, "{0} {1} {2}"),
    ({"kind": "sentences_at_least", "n": 5}, PLAIN.replace("rain, so we", "rain. We")),
    ({"kind": "one_of", "options": ["Yes.", "No.", "Maybe."]}, "Yes."),
    ({"kind": "repeats_request", "request": "Tell me."}, f"Tell me.\n\n{PLAIN}"),
]


@pytest.mark.parametrize(("check", "wanted"), EDITED, ids=lambda value: str(value)[:40])
def test_repair_makes_the_edit_of_the_failing_check(check, wanted):
    parts = sentences(PLAIN)
    text = wanted if check["kind"] == "json_only" else wanted.format(*parts)
    assert repair(PLAIN, "Tell me of an old path near the river.", [check]) == text


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (PLAIN, {"kind": "words_at_most", "n": 10}),  # its first sentence has 14 words
        ("The bridge is old. The new bridge is not.", {"kind": "avoids_words", "words": ["bridge"]}),
        (PLAIN, {"kind": "title"}),  # it shares no phrase with the prompt
        ("Come soon. Bring bread and a coat.\n\nYours,\nSam", {"kind": "postscript", "marker": "P.S."}),
        ("Bring bread. Take care of it.", {"kind": "postscript", "marker": "P.S."}),
        ("Rest. Walk.", {"kind": "paragraph_opens_with", "n": 2, "paragraph": 2, "word": "later"}),
        (PLAIN, {"kind": "includes_words", "words": ["luck"]}),
        (PLAIN, {"kind": "repeats_word", "word": "luck", "n": 2}),
        (PLAIN, {"kind": "placeholders", "n": 1}),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_repair_gives_up_where_a_rule_would_leave_a_broken_or_empty_sentence(text, check):
    assert not meets(text, [check])[0]
    assert repair(text, "What is it like?", [check]) is None


def test_repair_keeps_what_passes_and_gives_up_on_what_edits_cannot_do():
    assert repair(PLAIN, "", [{"kind": "words_at_least", "n": 10}]) == PLAIN
    assert repair(PLAIN, "", [{"kind": "words_at_least", "n": 100}]) is None
    assert repair(PLAIN, "", [{"kind": "in_language", "language": "German"}]) is None
    for nothing in ("  ", "***", "...\n\n"):
        assert repair(nothing, "", [{"kind": "quoted"}]) is None
    assert repair(JSON, "", [{"kind": "json_only"}]) == JSON


def test_repair_keeps_a_list_and_a_signature_in_place():
    listed = "We need three things:\n\n1. A warm coat.\n2. Some bread.\n3. Time.\n\nThat is enough."
    checks = [{"kind": "bullets", "n": 2}, {"kind": "quoted"}]
    assert repair(listed, "", checks) == '"We need three things:\n\n* A warm coat.\n* Some bread.\n\nThat is enough."'
    assert repair("A cold day. A warm coat.", "", checks) == '"\n* A cold day.\n* A warm coat.\n"'
    letter = "Dear Ann,\n\nCome soon.\n\nYours,\nSam"
    assert repair(letter, "", [{"kind": "quoted"}]) == f'"{letter}"'


def test_repair_drops_echoes_of_the_prompt_and_returns_no_mere_echo():
    prompt = "What does the river do in winter? Begin and close your reply with a double quote character."
    answer = "Begin and close your reply with a double quote character. It freezes at the edges."
    assert repair(answer, prompt, [{"kind": "quoted"}]) == '"It freezes at the edges."'
    assert repair(prompt, prompt, [{"kind": "quoted"}]) is None
    options = [{"kind": "one_of", "options": ["The answer is not known yet."]}]
    assert repair("The answer is not known yet.", f"Choose: {options}", options) == "The answer is not known yet."


def test_repair_leaves_room_for_what_later_edits_add():
    checks = [
        {"kind": "words_at_most", "n": 22}, {"kind": "no_commas"}, {"kind": "lowercase"},
        {"kind": "ends_with", "phrase": "Take care of it now."},
    ]  # fmt: skip
    assert repair(PLAIN, "", checks) == (
        "the river was high after the rain so we took the long way home. take care of it now."
    )
