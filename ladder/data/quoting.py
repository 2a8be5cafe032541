"""Quote untrusted model output inside a judge prompt, as a defense against prompt injection."""

import hashlib
import re

_NAMES = "s|bos|eos|pad|unk|mask|sop|eop|eod|start_of_turn|end_of_turn"
_BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|THINK|MODEL_SETTINGS|PREFIX"
    "|SUFFIX|MIDDLE|IMG|gMASK|sMASK"
)
# Markers of chat templates: a tokenizer parses them inside a message too, so that an answer could end the judge's
# prompt and begin its reply. Llama, ChatML, Phi, Cohere, Granite and most others; Gemma; DeepSeek; Llama 2; Mistral;
# GLM; Kimi.
_MARKER = re.compile(
    rf"<(?=\||\uff5c|/?(?:{_NAMES})>|</?SYS>>|\w+\|>)|\[(?=/?(?:{_BRACKETED})\])|\u25c1(?=/?\w+\u25b7)"
)
# A judge that quotes verdict brackets of the answer would repeat them.
_VERDICT = re.compile(r"\[(?=\[)")


def plain(text: str) -> str:
    """Insert a space after the first character of chat template markers (`<|im_end|>`, `[INST]`, `</s>`).

    For texts of third parties that a prompt shows without delimiters, for example the request before a quoted answer.
    """
    return _MARKER.sub(lambda found: found[0] + " ", text)


def fenced(text: str, name: str = "answer") -> str:
    """Wrap an untrusted text in two delimiter lines that it cannot contain: each includes a hash of the text.

    Chat template markers (see `plain`) and verdict brackets (`[[10]]`) get a space after their first character. `name`
    is the word for the text in the delimiters.
    """
    text = _VERDICT.sub("[ ", plain(text))
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:
        mark = hashlib.sha256((mark + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<{name} {mark}>>>\n{text}\n<<<end of {name} {mark}>>>"
