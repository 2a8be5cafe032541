"""Answers that nobody vouches for, inside a judge's prompt: fenced off, so that what they say is not obeyed."""

import hashlib
import re

# What chat templates write between turns: a tokenizer reads it inside a message too, so that an answer could end the
# judge's prompt and begin its reply. And the brackets of a verdict, which a judge that quotes the answer would repeat.
_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|</?SYS>>)|\[(?=/?INST\])|<(?=\uff5c)|\[(?=\[)")


def fenced(text: str) -> str:
    """An answer between two lines that it cannot contain: each names a hash of the answer itself.

    The marks of chat templates (`<|im_end|>`, `[INST]`, `</s>`) and of verdicts (`[[10]]`) get a space after their
    first character.
    """
    text = _CONTROL.sub(lambda found: found[0] + " ", text)
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:
        mark = hashlib.sha256((mark + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<answer {mark}>>>\n{text}\n<<<end of answer {mark}>>>"
