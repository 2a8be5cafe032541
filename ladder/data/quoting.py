"""Quote untrusted model output inside a judge prompt, as a defense against prompt injection."""

import hashlib
import re

# Chat template markers: a tokenizer parses them inside a message too, so that an answer could end the judge's prompt
# and begin its reply. Verdict brackets too: a judge that quotes the answer would repeat them.
_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|</?SYS>>)|\[(?=/?INST\])|<(?=\uff5c)|\[(?=\[)")


def fenced(text: str) -> str:
    """Wrap an answer in two delimiter lines that it cannot contain: each includes a hash of the answer.

    Chat template markers (`<|im_end|>`, `[INST]`, `</s>`) and verdict brackets (`[[10]]`) get a space after their
    first character.
    """
    text = _CONTROL.sub(lambda found: found[0] + " ", text)
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:
        mark = hashlib.sha256((mark + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<answer {mark}>>>\n{text}\n<<<end of answer {mark}>>>"
