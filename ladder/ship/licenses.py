"""Licenses of a rung's base and data, where the repository records them; `unknown` elsewhere."""

from pathlib import Path
from typing import Any, NamedTuple

from ladder.data.jsonl import read_json
from ladder.pipeline.stage import read_yaml
from ladder.ship.lineage import ANSWERED, Lock, Step

UNKNOWN = "unknown"
KNOWN = Path("supply/data.yaml")
"""Licenses of the models and data sets that the repository names."""
CARDS = Path("data/card")


class Licensed(NamedTuple):
    """Source of a rung and its license."""

    what: str
    origin: str
    license: str
    note: str = ""


def base_license(source: str | None) -> Licensed:
    """Return the license of the base: that of the longest source in supply/data.yaml that `source` begins with."""
    known = _known(source or "")
    return Licensed("base model", str(source), str(known.get("license", UNKNOWN)).lower(), str(known.get("note", "")))


def data_licenses(steps: list[Step], lock: Lock) -> list[Licensed]:
    """Return the license of every file that a rung of the lineage was trained on, and of its sources.

    A published data set has the license that its entry of `source` states. Rows that are made here have the license
    that their data card states, where there is one.
    """
    cards = {f"data/{card['data']}.jsonl": card for card in map(read_json, sorted(CARDS.glob("*.json")))}
    trained = [file.path for step in steps for file in step.data]
    found: dict[str, Licensed] = {}
    for path in lock.upstream(trained):
        stage = str(lock.maker(path) or "")
        settings = lock.settings(path)
        if stage.startswith("source@"):
            stated = settings.get("license") or UNKNOWN
            found[path] = Licensed(path, str(settings.get("source")), str(stated).lower())
        elif path in cards:
            licenses = sorted({str(one["license"]).lower() for one in cards[path]["sources"]})
            found[path] = Licensed(path, f"made here by {stage}", ", ".join(licenses), _card_note(cards[path]))
        elif path in trained:
            found[path] = Licensed(path, f"made here by {stage}" if stage else "not recorded", UNKNOWN)
        if stage.partition("@")[0] in ANSWERED and path in found:
            note = _answers_note(settings)
            found[path] = found[path]._replace(note="; ".join(filter(None, (found[path].note, note))))
    return [found[path] for path in sorted(found)]


def _known(source: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = read_yaml(KNOWN) if KNOWN.is_file() else []
    plain = source.replace("==", "/", 1) if source.startswith("wheel:") else source
    parts = plain.split("/")
    if source.startswith("wheel:"):  # supply/data.yaml has no versions: wheel:NAME/member
        plain = "/".join([parts[0], *parts[2:]])
    fits = [
        (len(prefix), entry) for entry in entries for prefix in entry["sources"]
        if plain == prefix or plain.startswith((f"{prefix}/", f"{prefix}@"))
    ]  # fmt: skip
    return max(fits, key=lambda fit: fit[0])[1] if fits else {}


def _card_note(card: dict[str, Any]) -> str:
    return f"{card['title']}: {card['rows']} rows; data card data/card/{card['name']}.md"


def _answers_note(settings: dict[str, Any]) -> str:
    endpoint = settings.get("endpoint")
    if isinstance(endpoint, dict):
        return f"answers by {endpoint.get('model')} at {endpoint.get('base_url')}, whose terms may bind them"
    model = settings.get("model") or settings.get("teacher")
    return f"answers by the rung {model}" if model else ""
