from pathlib import Path

from ladder.data.prompt_templates import read_lines
from ladder.inference.types import Answer, Sampling
from ladder.synthesis.persona import persona
from ladder.synthesis.pool import Instruction, Plan

PROMPTS = Path(__file__).parents[3] / "prompts" / "persona"
LISTED = read_lines(PROMPTS / "personas.txt")
SEEDS = [Instruction("s0", "Name a river in Peru."), Instruction("s1", "How do bees find home?")]


def plan(**changed):
    given = {"name": "new", "method": "persona", "count": 99, "rounds": 2, "batch": 2, "novelty": 0.7, "split": None}
    return Plan(**{**given, "sampling": Sampling(1.0, 1.0, 60, 0), **changed})


def script(describe):
    """Reply stub: `describe(n)` for the n-th description of a person, and new instructions otherwise."""
    described, instructed = [], []

    def generate(conversations, sampling):
        replies = []
        for (message,) in conversations:
            if "description alone" in message["content"]:
                described.append(message["content"])
                replies.append(Answer(describe(len(described) - 1), 9, True))
            else:
                instructed.append(message["content"])
                number = len(instructed)
                replies.append(Answer(f'"Help u{number} v{number} w{number}?"', 9, True))
        return replies

    return generate, described, instructed


def test_listed_personas_are_asked_in_order_until_none_is_left():
    generate, described, instructed = script(str)
    harvest = persona(generate, PROMPTS, SEEDS, plan(rounds=99, batch=10), "listed")
    assert [row["source"]["persona"] for row in harvest.rows] == LISTED
    assert harvest.rows[0]["prompt"][0]["content"] == "Help u1 v1 w1?"
    assert all(text in asked for text, asked in zip(LISTED, instructed, strict=True))
    assert described == []


def test_a_persona_is_inferred_from_each_seed_and_is_traced_to_it():
    generate, described, instructed = script(lambda n: ["A hydrologist of Lima.", "A hydrologist of Lima."][n])
    harvest = persona(generate, PROMPTS, SEEDS, plan(batch=1), "inferred")
    assert [seed.text in text for seed, text in zip(SEEDS, described, strict=True)] == [True, True]
    (row,) = harvest.rows
    assert (row["source"]["parents"], row["source"]["persona"]) == (["s0"], "A hydrologist of Lima.")
    (rejected,) = harvest.rejected
    assert (rejected["filter"], rejected["reason"]) == ("persona", "1.00 ROUGE-L with 'A hydrologist of Lima.'")
    assert rejected["source"]["parents"] == ["s1"]
    assert len(instructed) == 1


def test_related_personas_come_from_the_list_and_then_from_those_before():
    generate, described, _ = script(lambda n: f"somebody x{n} y{n} z{n}")
    everyone = len(LISTED) + 2
    harvest = persona(generate, PROMPTS, SEEDS, plan(rounds=40), "related")
    assert len(harvest.rows) == 80
    first = [row["source"]["related_to"] for row in harvest.rows[:2]]
    assert set(first) <= set(LISTED)
    assert any(row["source"]["related_to"].startswith("somebody") for row in harvest.rows)
    assert len(described) == 80 > everyone


def test_a_reply_that_describes_no_person_is_rejected():
    generate, _, instructed = script(lambda n: ["", "A cook.\nOr a waiter."][n])
    harvest = persona(generate, PROMPTS, SEEDS, plan(rounds=1), "inferred")
    assert [row["reason"] for row in harvest.rejected] == ["not one paragraph"] * 2
    assert harvest.rows == instructed == []
