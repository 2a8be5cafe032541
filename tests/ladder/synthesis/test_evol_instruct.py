from pathlib import Path

import pytest

from ladder.data.prompt_templates import read_lines
from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import UserError
from ladder.synthesis.evol_instruct import copied, evolve, no_gain, unanswered
from ladder.synthesis.pool import Instruction, Plan

PROMPTS = Path(__file__).parents[3] / "prompts" / "evolve"
STOP_WORDS = read_lines(PROMPTS / "stop_words.txt")
OPERATIONS = ["constrain", "deepen", "concretize", "reason", "breadth"]
SEEDS = [Instruction("s0", "Name a river in Peru."), Instruction("s1", "How do bees find home?")]


def plan(**changed):
    given = {"name": "new", "method": "evolve", "count": 99, "rounds": 1, "batch": 2, "novelty": None, "split": None}
    return Plan(**{**given, "sampling": Sampling(1.0, 1.0, 60, 0), **changed})


def script(evolved, verdict="DIFFERENT", answer="The Amazon, which is long."):
    """Reply stub: `evolved(instruction)` to an operation, the verdict to the judge, the answer to what evolved."""
    asked = {"evolve": [], "judge": [], "answer": []}

    def generate(conversations, sampling):
        replies = []
        for (message,) in conversations:
            text = message["content"]
            if "SAME or DIFFERENT" in text:
                assert (sampling.temperature, sampling.max_new_tokens) == (0, 16)
                asked["judge"].append(text)
                replies.append(Answer(verdict, 2, True))
            elif text.startswith("Below is an instruction"):
                asked["evolve"].append(text)
                replies.append(Answer(evolved(text.rpartition("\n\n")[2]), 12, True))
            else:
                asked["answer"].append(text)
                replies.append(Answer(answer, 6, True))
        return replies

    return generate, asked


def longer(text):
    return f"{text} Give two reasons."


def test_what_evolves_takes_its_parent_s_place_and_what_fails_leaves_it():
    generate, asked = script(lambda text: longer(text) if "river" in text else text)
    harvest = evolve(generate, PROMPTS, SEEDS, plan(rounds=2), ["deepen"])
    assert [(row["id"], row["prompt"][0]["content"], row["source"]["parents"]) for row in harvest.rows] == [
        ("new-00000", "Name a river in Peru. Give two reasons.", ["s0"]),
        ("new-00001", "Name a river in Peru. Give two reasons. Give two reasons.", ["new-00000"]),
    ]
    assert [(row["filter"], row["reason"]) for row in harvest.rejected] == [("exact", "the same as s1")] * 2
    # What the rules reject is neither judged nor answered.
    assert [len(asked[name]) for name in ("evolve", "judge", "answer")] == [4, 2, 2]
    assert "Name a river in Peru." in asked["judge"][0]
    assert asked["answer"][0] == "Name a river in Peru. Give two reasons."


@pytest.mark.parametrize(
    ("evolved", "verdict", "answer", "rule", "reason"),
    [
        (longer, "Same.", "Amazon", "no_gain", "the judge says SAME"),
        (longer, "Who knows", "Amazon", "no_gain", "no verdict: 'Who knows'"),
        (longer, "DIFFERENT", "Sorry, I cannot.", "refused", "answered with 'sorry' in 3 words"),
        (longer, "DIFFERENT", "- It is.", "answer", "answered with stop words and punctuation alone: '- It is.'"),
        (lambda text: f"New instruction: {text}", "DIFFERENT", "Amazon", "copied", "copies 'new instruction'"),
        (lambda text: "Hm!", "DIFFERENT", "Amazon", "length", "1 words"),
    ],
)  # fmt: skip
def test_a_failed_evolution_is_eliminated_with_its_reason(evolved, verdict, answer, rule, reason):
    harvest = evolve(script(evolved, verdict, answer)[0], PROMPTS, SEEDS[:1], plan(), ["constrain"])
    assert harvest.rows == []
    assert [(row["filter"], row["reason"]) for row in harvest.rejected] == [(rule, reason)]
    assert harvest.rejected[0]["source"]["operation"] == "constrain"


def test_sorry_in_a_long_answer_is_no_refusal_and_in_another_word_neither():
    long = "I am sorry. " + "word " * 77
    assert unanswered(long, STOP_WORDS) is None  # 80 words
    assert unanswered(long.removesuffix("word "), STOP_WORDS) == ("refused", "answered with 'sorry' in 79 words")
    assert unanswered("Pick a sorrysome name.", STOP_WORDS) is None


@pytest.mark.parametrize(("answer", "empty"), [("", True), ("?!", True), ("It isn't.", False), ("You don't", False),
                                               ("So that, and then: we.", True), ("42", False)])  # fmt: skip
def test_stop_words_and_punctuation_are_no_answer(answer, empty):
    assert (unanswered(answer, STOP_WORDS) is not None) == empty


def test_five_words_of_the_prompt_in_a_row_are_copied_unless_the_parent_has_them():
    template = "Make it harder to fulfill, please.\n\n{instruction}\n\nReply with the text alone."
    assert copied("Make it harder to climb", "Climb.", template) is None
    assert copied("So make it harder to fulfill!", "Climb.", template) == "copies 'make it harder to fulfill'"
    assert copied("So make it harder to fulfill!", "Make it harder to fulfill.", template) is None
    assert copied("fulfill please reply with the", "Climb.", template) is None  # the field separates them
    assert copied("Improve the given prompt.", "Improve it.", template) == "copies 'given prompt'"
    assert copied("Improve the given prompt.", "The given prompt: improve it.", template) is None


@pytest.mark.parametrize(
    ("verdict", "kept"), [("DIFFERENT", True), ("**Different**.", True), ("SAME", False), ("Same or different?", False),
                          ("Indifferent", False), ("", False)]
)  # fmt: skip
def test_only_a_clear_verdict_keeps(verdict, kept):
    assert (no_gain(verdict) is None) == kept


def test_every_operation_of_ours_is_drawn_and_asks_with_its_own_prompt():
    seeds = [Instruction(f"s{n}", f"Say {n} in words.") for n in range(60)]
    generate, asked = script(longer)
    harvest = evolve(generate, PROMPTS, seeds, plan(batch=99), OPERATIONS)
    drawn = [row["source"]["operation"] for row in harvest.rows]
    assert len(drawn) == 60
    assert min(drawn.count(name) for name in OPERATIONS) >= 4  # of 12 expected
    assert all(asked["evolve"][n].endswith(f"\n\nSay {n} in words.") for n in range(60))
    assert len({text.partition("\n\n")[0] for text in asked["evolve"]}) == 5


def test_an_operation_is_a_file(tmp_path):
    with pytest.raises(UserError, match="rhyme.txt: no such file"):
        evolve(script(longer)[0], PROMPTS, SEEDS, plan(), ["rhyme"])
