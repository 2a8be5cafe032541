"""Line numbers of keys and values in a YAML file, for messages such as `params.yaml:123: sft.chat.parent: ...`."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Keys = Sequence[Hashable]


class Lines:
    """Node tree of a YAML file that maps a path of keys and list positions to line numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def root(self) -> Node | None:
        """The parsed file. Errors: YAMLError for invalid YAML; OSError for a missing file."""
        found: Node | None = YAML(typ="safe", pure=True).compose(self.path.read_text(encoding="utf-8"))
        return found

    def line(self, keys: Keys) -> int | None:
        """Return the 1-based line of the longest prefix of `keys` in the file; None if even the first key is absent."""
        node, found = self.root, None
        for key in keys:
            step = _step(node, key)
            if step is None:
                break
            mark, node = step
            found = mark.start_mark.line + 1
        return found

    def has(self, keys: Keys) -> bool:
        """Return whether the file has a value at exactly these keys."""
        node = self.root
        for key in keys:
            step = _step(node, key)
            if step is None:
                return False
            node = step[1]
        return True

    def where(self, keys: Keys) -> str:
        """Return `params.yaml:123: sft.chat.parent`, without the line number if the file lacks the key."""
        line = self.line(keys)
        return f"{self.path}{f':{line}' if line else ''}{f': {dotted(keys)}' if keys else ''}"


def dotted(keys: Keys) -> str:
    """Join keys as in messages: `report.rungs.1`. Non-printable characters are escaped."""
    return ".".join(key if isinstance(key, str) and key.isprintable() else repr(key) for key in keys)


def _step(node: Node | None, key: Hashable) -> tuple[Node, Node] | None:
    """Return (node whose line is reported for this key, node to search next); None if the key is absent."""
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if isinstance(name, ScalarNode) and name.value == str(key):
                return name, value
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None
