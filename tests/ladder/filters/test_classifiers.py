import pytest

from conftest import assistant, user
from ladder.pipeline.stage import UserError

py3langid = pytest.importorskip("py3langid", reason="py3langid is not installed")
from ladder.filters.classifiers import language, profanity  # noqa: E402

ENGLISH = "The quick brown fox jumps over the lazy dog, and then it goes home to sleep."
FRENCH = "Le renard brun saute par-dessus le chien paresseux, puis il rentre chez lui pour dormir."


def judge(text, keep=("en",), sure=0.5):
    return language({"prompt": user("Q"), "completion": assistant(text)}, part="completion", keep=[*keep], sure=sure)


def test_another_language_goes_with_what_py3langid_says_of_it():
    identifier = py3langid.langid.LanguageIdentifier.from_model_file("data/model.npz.xz", norm_probs=True)
    found, probability = identifier.classify(FRENCH)
    assert found == "fr"
    assert judge(FRENCH) == f"fr {probability:.2f}"
    assert judge(FRENCH, sure=probability + 0.001) is None
    assert judge(FRENCH, keep=("en", "fr")) is None
    assert judge(ENGLISH) is None
    assert judge(ENGLISH, keep=("fr",)).startswith("en ")


@pytest.mark.parametrize("text", ["", "42", "x = 3 ** 2", "6, 28, 496, and 8128", "Naruto -> Naruto", "1e6"])
def test_what_is_of_no_language_for_sure_stays(text):
    assert judge(text) is None


def test_the_part_that_is_asked_for_is_read():
    row = {"prompt": user(FRENCH), "completion": assistant(ENGLISH)}
    assert language(row, part="completion", keep=["en"], sure=0.5) is None
    assert language(row, part="prompt", keep=["en"], sure=0.5).startswith("fr ")


def test_an_unknown_language_is_named():
    with pytest.raises(UserError, match="labels among .*, en, .*, got 'english'"):
        judge(ENGLISH, keep=("english",))


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
