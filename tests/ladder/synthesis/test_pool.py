import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import UserError
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, read_instructions, tidy


def plan(**changed):
    given = {"name": "new", "method": "evolve", "count": 2, "rounds": 1, "batch": 1, "novelty": 0.7, "split": "sft"}
    return Plan(**{**given, "sampling": Sampling(1.0, 1.0, 20, 7), **changed})


ORIGIN = Origin("deepen", 3, ["s"], {"persona": "a nurse"})


def offered(harvest, text, *, finished=True):
    return harvest.offer(Answer(text, 9, finished), text, ORIGIN)


def test_what_is_kept_is_a_prompt_for_generate_that_reports_where_it_is_from():
    harvest = Harvest(plan(), [Instruction("s", "Name a river in Peru.")])
    made = offered(harvest, "Explain how rivers shape a valley.")
    assert made == Instruction("new-00000", "Explain how rivers shape a valley.")
    source = {"name": "synthesize/new", "row": 0, "method": "evolve", "operation": "deepen", "round": 3}
    assert harvest.rows == [
        {
            "id": "new-00000",
            "split": "sft",
            "prompt": user("Explain how rivers shape a valley."),
            "checks": [],
            "source": {**source, "parents": ["s"], "persona": "a nurse"},
        }
    ]


@pytest.mark.parametrize(
    ("text", "finished", "rule", "reason"),
    [
        ("Name a lake in Chile.", False, "finished", "not finished after 9 tokens"),
        ("Do it now!", True, "length", "3 words"),
        (" ".join(map(str, range(151))), True, "length", "151 words"),
        ("name  a river in Peru.", True, "exact", "the same as s"),
        ("Name a river in Chile.", True, "novelty", "0.80 ROUGE-L with s"),
    ],
)
def test_what_is_rejected_reports_the_rule_and_the_reason(text, finished, rule, reason):
    harvest = Harvest(plan(), [Instruction("s", "Name a river in Peru.")])
    assert offered(harvest, text, finished=finished) is None
    (row,) = harvest.rejected
    assert (row["filter"], row["reason"], row["text"]) == (rule, reason, text)
    assert row["source"]["parents"] == ["s"]


def test_a_score_of_the_threshold_is_not_new_and_one_below_it_is():
    seeds = [Instruction("s", "a b c d e f g x y z")]
    assert offered(Harvest(plan(novelty=0.7), seeds), "a b c d e f g 1 2 3") is None  # 2 * 7 / 20
    assert offered(Harvest(plan(novelty=0.71), seeds), "a b c d e f g 1 2 3") is not None
    assert offered(Harvest(plan(novelty=None), seeds), "a b c d e f g x y") is not None


def test_what_was_made_counts_against_what_comes_after_and_fills_the_harvest():
    harvest = Harvest(plan(), [])
    assert offered(harvest, "Name a river in Peru.")
    assert not harvest.full
    assert offered(harvest, "Name a river in Chile.") is None
    assert offered(harvest, "Why is the sky blue at noon?")
    assert harvest.full
    assert harvest.counts() == {"kept": 2, "yield": 66.67, "rejected": {"novelty": 1}}


def test_each_step_of_each_round_has_a_seed_of_its_own_and_keeps_it():
    seeds = [plan().drawn(number, step).seed for number in (1, 2) for step in ("evolve", "answer")]
    assert len(set(seeds)) == 4
    assert seeds == [plan(count=9).drawn(number, step).seed for number in (1, 2) for step in ("evolve", "answer")]
    assert plan(sampling=Sampling(seed=8)).drawn(1, "evolve").seed not in seeds


def test_instructions_are_what_is_asked_first_the_same_text_once(tmp_path):
    path = tmp_path / "seeds.jsonl"
    rows = [
        {"id": "a", "split": "sft", "prompt": user(" Name a river. "), "completion": assistant("Rhine")},
        {"id": "b", "split": "sft", "messages": [{"role": "system", "content": "Hi"}, *user("One?"), *user("Two?")]},
        {"id": "c", "split": "sft", "prompt": user("name a  river.")},
        {"id": "d", "split": "heldout", "prompt": user("Held out?")},
    ]
    write_rows(path, rows)
    assert read_instructions(path, "sft") == [Instruction("a", "Name a river."), Instruction("b", "One?")]
    assert [seed.id for seed in read_instructions(path, None)] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "a", "prompt": assistant("Hello")}, "row 1: expected a message of the user, with a text"),
        ({"prompt": user("Hello")}, "row 1: expected 'id' of type str"),
        ({"id": "a", "instruction": "Hello"}, "row 1: expected `messages`"),
    ],
)
def test_a_row_without_an_instruction_is_named(tmp_path, row, said):
    write_rows(tmp_path / "seeds.jsonl", [row])
    with pytest.raises(UserError, match=f"seeds.jsonl: {said}"):
        read_instructions(tmp_path / "seeds.jsonl", None)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [(' "Say it." ', "Say it."), ("“Say it.”", "Say it."), ('"A" and "B"', '"A" and "B"'), ('"', '"'), ("", "")],
)
def test_quotation_marks_around_the_whole_go(text, tidied):
    assert tidy(text) == tidied
