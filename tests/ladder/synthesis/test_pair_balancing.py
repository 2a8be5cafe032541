import hashlib

import pytest

from conftest import assistant, user
from ladder.pipeline.stage import UserError, fit
from ladder.synthesis.pair_balancing import (
    Controls,
    assigned,
    check_apart,
    check_pair,
    controlled,
    fault,
    labeled,
    lengths,
    longer,
    prompt_key,
    words,
)


def pair(prompt, chosen=1, rejected=1, **columns):
    """A pair whose answers have these numbers of words."""
    said = {"chosen": assistant("good " * chosen), "rejected": assistant("bad " * rejected)}
    return {"id": prompt, "prompt": user(prompt), **said, **columns}


def scored(chosen, rejected):
    return pair("a", score_chosen=chosen, score_rejected=rejected)


def test_words_are_separated_by_blanks():
    assert words(assistant("It's  fine,\nreally.")) == 3
    assert longer(pair("a", 5, 2)) == 3


def test_equal_reversed_and_narrow_pairs_are_no_pairs():
    pairs = [scored(4.0, 3.0), scored(4.0, 4.0), scored(2.0, 3.5), scored(4.0, 3.25), scored(5.0, 1.0)]
    assert [fault(one, 1.0, "here") for one in pairs] == [None, "equal", "reversed", "below_margin", None]
    assert [fault(one, None, "here") for one in pairs] == [None, "equal", "reversed", None, None]
    assert fault(scored(0.3, 0.2), 0.1, "here") is None  # 0.3 - 0.2 is 0.09999999999999998
    assert fault({**pair("a"), "rejected": pair("a")["chosen"]}, None, "here") == "identical"


def test_a_margin_needs_scores():
    with pytest.raises(UserError, match=r"pair 2: margin 1 needs score_chosen and score_rejected, got \(None, None\)"):
        assigned([scored(3.0, 1.0), pair("a")], Controls(margin=1.0), 0)


def kept(pairs, most, seed):
    return list(labeled(pairs, assigned(pairs, Controls(max_longer=most), seed), "train"))


@pytest.mark.parametrize(("most", "long"), [(0.0, 0), (0.2, 1), (0.5, 4), (0.6, 6), (0.75, 9), (1.0, 9), (None, 9)])
def test_the_longer_chosen_are_at_most_the_share_that_is_asked_for(most, long):
    """Of 9 longer, 3 shorter and 1 of equal length: long / (long + 4) <= most."""
    pairs = [pair(str(n), 5, 2) for n in range(9)] + [pair(f"s{n}", 2, 5) for n in range(3)] + [pair("e", 2, 2)]
    left = kept(pairs, most, 0)
    assert sum(longer(one) > 0 for one in left) == long
    assert [one for one in left if longer(one) <= 0] == pairs[9:]
    assert left == [one for one in pairs if one in left]


def test_which_pairs_stay_is_the_seeds_and_the_pairs_own():
    pairs = [pair(str(n), 5, 2) for n in range(20)] + [pair(f"s{n}", 2, 5) for n in range(5)]
    drawn = [{one["id"] for one in kept(pairs, 0.5, seed)} for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {one["id"] for one in kept(pairs[::-1], 0.5, 0)} == drawn[0]
    more = {one["id"] for one in kept([*pairs, pair("s5", 2, 5)], 0.5, 0)}
    assert drawn[0] < more
    assert len(more - drawn[0]) == 2  # the new pair, and one more longer pair with it


def test_a_prompt_is_on_the_side_of_its_hash():
    key = hashlib.sha256(b'[["user", "say 7."]]').hexdigest()
    assert prompt_key(pair("Say 7.")) == prompt_key(pair("say\n 7. ")) == key
    pairs = [pair(f"Say {n // 2}.", n % 2 + 1) for n in range(4000)]
    labels = assigned(pairs, Controls(validation=0.1), 0)
    train, validation = (list(labeled(pairs, labels, name)) for name in ("train", "validation"))
    assert len(train) + len(validation) == 4000
    assert abs(len(validation) - 400) < 4 * 2 * (2000 * 0.1 * 0.9) ** 0.5  # two pairs per prompt
    assert validation == [one for one in pairs if int(prompt_key(one), 16) / 2**256 < 0.1]
    assert assigned(pairs[500:700], Controls(validation=0.1), 5) == labels[500:700]
    assert set(assigned(pairs, Controls(), 0)) == {"train"}
    check_apart(train, validation, "here")


def test_a_leak_is_refused():
    with pytest.raises(
        UserError, match="v.jsonl: row 2: expected a prompt that is not in the training set, got 'SAY  one. '"
    ):
        check_apart([pair("Say one.")], [pair("Say two."), pair("SAY  one. ", 3)], "v.jsonl")


def test_how_much_longer_chosen_is():
    reported = lengths([pair("a", 3, 3), pair("b", 12, 2), pair("c", 1, 2), pair("d", 2, 3)])
    assert reported == {"chosen_longer_by_words": 2.0, "chosen_longer_percent": 25.0}


def test_the_controls_together(tmp_path):
    pairs = [pair(f"Say {n}.", 4, 2, score_chosen=5.0, score_rejected=1.0 + n % 3 * 2) for n in range(300)]
    pairs += [pair(f"Tell {n}.", 2, 3, score_chosen=5.0, score_rejected=1.0) for n in range(50)]
    controls = fit(Controls, {"margin": 2.0, "max_longer": 0.5, "validation": 0.2}, "pairs.a")
    labels, reported = controlled(pairs, controls, 0, tmp_path / "pairs.jsonl")
    train, validation = (list(labeled(pairs, labels, name)) for name in ("train", "validation"))
    assert len([one for one in train if longer(one) > 0]) == len([one for one in train if longer(one) < 0])
    assert len([one for one in validation if longer(one) > 0]) == len([one for one in validation if longer(one) < 0])
    assert len(train) + len(validation) == 100
    assert reported == {
        "pairs": len(train),
        "chosen_longer_by_words": 0.5,
        "chosen_longer_percent": 50.0,
        "validation_pairs": len(validation),
        "dropped_equal": 100,
        "dropped_longer": 150,
    }


def test_an_empty_side_is_refused(tmp_path):
    with pytest.raises(UserError, match="p.jsonl: none of 1 pairs is left for training \\(longer: 1\\). Use more"):
        controlled([pair("a", 2, 1)], Controls(max_longer=0.0), 0, tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="p.jsonl: none of 1 pairs is left for validation \\(none dropped\\)"):
        controlled([pair("a", 2, 1)], Controls(validation=1e-9), 0, tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": "Hi"}, "prompt: expected a list of messages with texts, got 'Hi'"),
        ({"chosen": []}, "chosen: expected a list of messages"),
        ({"chosen": user("Hi")}, "chosen: expected one message of the assistant"),
        ({"rejected": assistant("a") + user("b")}, "rejected: expected one message of the assistant"),
        ({"score_chosen": "high"}, "score_chosen: expected a number, got 'high'"),
        ({"rejected": [{"role": "assistant", "content": None}]}, "rejected: expected a list of messages with texts"),
    ],
)
def test_what_is_no_pair_is_named(wrong, said):
    with pytest.raises(UserError, match=f"d.jsonl: row 3: {said}"):
        check_pair({**pair("a"), **wrong}, "d.jsonl: row 3")
