import pytest

from conftest import assistant, user
from ladder.filters.offensive import profanity

profanity_check = pytest.importorskip("profanity_check", reason="alt-profanity-check is not installed")

TEXTS = ["Have a nice day.", "You are a stupid bitch.", "Kill the process with SIGTERM.", ""]


def test_scores_are_the_models_own():
    rows = [{"prompt": user("Q"), "completion": assistant(text)} for text in TEXTS]
    scores = profanity_check.predict_prob(TEXTS)
    wanted = [f"{score:.2f} offensive" if score > 0.5 else None for score in scores]
    assert profanity(rows, part="completion", max=0.5) == wanted == [None, "1.00 offensive", None, None]
    assert [profanity([row], part="completion", max=0.5)[0] for row in rows] == wanted
    assert profanity(rows, part="prompt", max=0.5) == [None] * 4
    assert profanity([], part="all", max=0.5) == []
