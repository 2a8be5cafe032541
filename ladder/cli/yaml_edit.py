"""Merge values into a YAML file by editing its text: lines of other keys keep every byte.

A round trip through a YAML library rewraps lines and moves comments. Here, ruamel.yaml's events give the position of
each value in the text, and only the text of changed values is replaced. The result is parsed again and compared with
the expected data, so an edit that would change anything else is refused.
"""

import re
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ladder.cli.yaml_nodes import Node, parse
from ladder.cli.yaml_values import first_difference, one_line, same
from ladder.pipeline.defaults import overlay
from ladder.pipeline.errors import UserError
from ladder.pipeline.yaml_lines import dotted

FLOW_SIGNS = re.compile(r"[,\[\]{}:#\n]")
"""Characters that need quotes inside a flow collection, where they could end the value."""


Pair = tuple[Node, Node]


@dataclass
class Edit:
    """Replacement of text[start:end]."""

    start: int
    end: int
    text: str


class Editor:
    """Merge of the values of one YAML text into another.

    Mappings are merged; every other value is replaced. New values keep the quotes, number formats, comments and layout
    that they have in the text they come from.
    """

    def __init__(self, text: str, values: str) -> None:
        """Parse both texts. Errors: YAMLError."""
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.text, self.values = text, values.replace("\r\n", "\n")
        self.step = 2
        self.edits: list[Edit] = []
        self.changed: list[tuple[object, ...]] = []

    def merged(self, data: Any, new: Any) -> str:
        """Return the text with `new` merged in. data, new: what the two texts hold, as mappings.

        Errors: UserError where the text cannot be edited without changing another key, as with an anchor that an alias
        elsewhere repeats.
        """
        root, source = parse(self.text), parse(self.values)
        columns = (
            [value.column - key.column for key, value in root.pairs if value.pairs and not value.flow] if root else []
        )
        self.step = next((step for step in columns if step > 0), 2)
        self._merge(data, new, root, source, ())
        text = self.text
        # From the end, so that positions stay valid. Of edits at one position, the last is applied first.
        for edit in sorted(self.edits, key=lambda edit: edit.start)[::-1]:
            text = text[: edit.start] + edit.text.replace("\n", self.newline) + text[edit.end :]
        self._verify(text, overlay(data, new))
        return text

    def _verify(self, text: str, expected: Any) -> None:
        try:
            found = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise UserError(f"{dotted(self.changed[0])}: cannot be changed in this file: {_line(error)}") from None
        if (keys := first_difference(found, expected)) is not None:
            raise UserError(
                f"{dotted(keys)}: the change of {', '.join(dotted(keys) for keys in self.changed[:3])} would change it "
                "too; expected values without a YAML anchor in common. Write the value out in place of the alias"
            )

    def _merge(
        self,
        data: Any,
        new: Any,
        node: Node | None,
        source: Node | None,
        keys: tuple[object, ...],
        key: Node | None = None,
    ) -> None:
        """Collect the edits of one mapping. key: its key, if that is in block style."""
        added = []
        for name, value in new.items():
            pair = source.pair(name) if source else None
            here = node.pair(name) if node else None
            inner = (*keys, name)
            if name not in data or here is None:
                if name not in data or not same(data[name], value):
                    self.changed.append(inner)
                    # A key that comes from `<<: *defaults` is overridden beside it, as a whole.
                    whole = overlay(data[name], value) if name in data else value
                    added.append((name, pair if whole == value else None, whole))
            elif isinstance(value, dict) and isinstance(data[name], dict):
                if here[1].kind == "alias":
                    if not same(merged := overlay(data[name], value), data[name]):
                        self.changed.append(inner)
                        self._replace(here, None, merged, flow=bool(node and node.flow))
                else:
                    block = None if node is None or node.flow else here[0]
                    self._merge(data[name], value, here[1], pair[1] if pair else None, inner, block)
            elif not same(data[name], value):
                self.changed.append(inner)
                self._replace(here, pair, value, flow=bool(node and node.flow))
        if added and node:
            self._insert(node, added, key)

    def _replace(self, here: Pair, pair: Pair | None, value: Any, *, flow: bool) -> None:
        key, old = here
        if flow:
            space = " " if old.start == old.end else ""
            self.edits.append(Edit(old.start, old.end, space + self._inline(pair[1] if pair else None, value)))
            return
        colon = self.text.index(":", key.end) + 1
        line_end = _line_end(self.text, colon)
        block = old.kind in ("mapping", "sequence") and not old.flow
        written = self._below(pair, value, key.column)
        if block:
            comment = re.search(r"\s+#.*$", self.text[colon:line_end])
            self.edits.append(Edit(colon, line_end - len(comment[0] if comment else ""), written.inline))
            self.edits.append(Edit(line_end, _line_end(self.text, old.end), written.lines))
            return
        in_place = bool(written.inline) and old.start != old.end
        text = written.inline.removeprefix(" ") if in_place else written.inline
        self.edits.append(Edit(old.start if in_place else colon, old.end, text))
        if written.lines:
            self.edits.append(Edit(after := _line_end(self.text, old.end), after, written.lines))

    def _insert(self, node: Node, added: list[tuple[Any, Pair | None, Any]], key: Node | None) -> None:
        if node.flow and (node.pairs or key is None):
            pairs = [
                f"{self._name(name, pair)}: {self._inline(pair[1] if pair else None, value)}"
                for name, pair, value in added
            ]
            if node.pairs:
                self.edits.append(Edit(end := node.pairs[-1][1].end, end, "".join(f", {text}" for text in pairs)))
            else:
                start = self.text.rindex("{", node.start, node.end)
                self.edits.append(Edit(start, node.end, f"{{{', '.join(pairs)}}}"))
            return
        column = node.column
        if node.flow and key:  # an empty section, `source: {}  # comment`, becomes lines below
            column = key.column + self.step
            self.edits.append(Edit(self.text.index(":", key.end) + 1, node.end, ""))
        lines = []
        for name, pair, value in added:
            if pair and self._is_own_line(pair[0]) and not pair[1].anchored:
                start = pair[0].start - pair[0].column
                lines.append(
                    _shifted(self.values[start : _line_end(self.values, pair[1].end)], column - pair[0].column)
                )
            else:
                written = self._below(pair, value, column)
                lines.append(f"{' ' * column}{self._name(name, pair)}:{written.inline}{written.lines}")
        end = _line_end(self.text, node.end)
        self.edits.append(Edit(end, end, "".join(f"\n{line}" for line in lines)))

    def _name(self, name: Any, pair: Pair | None) -> str:
        """Write a key as the source does."""
        return self.values[pair[0].start : pair[0].end] if pair and not pair[0].anchored else one_line(name)

    def _is_own_line(self, key: Node) -> bool:
        return not self.values[key.start - key.column : key.start].strip()

    def _below(self, pair: Pair | None, value: Any, column: int) -> "Written":
        """Write a value after a key of this column, in block style where the source has it."""
        if pair is None or pair[1].anchored:
            return Written(f" {one_line(value)}", "")
        key, node = pair
        if node.kind in ("mapping", "sequence") and not node.flow:
            start = _line_end(self.values, self.values.index(":", key.end))
            lines = self.values[start + 1 : _line_end(self.values, node.end)]
            return Written("", "\n" + _shifted(lines, column - key.column))
        if node.start == node.end:
            return Written(" null", "")
        first, *rest = self.values[node.start : node.end].split("\n")
        shifted = "".join(f"\n{_shifted(line, column - key.column)}" for line in rest)
        return Written(f" {first}{shifted}", "")

    def _inline(self, node: Node | None, value: Any) -> str:
        """Write a value on one line, for a flow collection."""
        if node is None or node.anchored or node.kind not in ("scalar", "mapping", "sequence"):
            return one_line(value)
        if node.kind == "scalar":
            written = self.values[node.start : node.end]
            plain = node.style is None and written and not FLOW_SIGNS.search(written)
            return written if plain or (node.style in ("'", '"') and "\n" not in written) else one_line(value)
        if node.kind == "mapping":
            found = [(name, node.pair(name), inner) for name, inner in value.items()]
            pairs = (
                f"{self._name(name, pair)}: {self._inline(pair[1] if pair else None, inner)}"
                for name, pair, inner in found
            )
            return "{" + ", ".join(pairs) + "}"
        return f"[{', '.join(self._inline(*one) for one in zip(node.items, value, strict=True))}]"


@dataclass(frozen=True)
class Written:
    """A value as text: the part after `key:` on its line, and the lines below."""

    inline: str
    lines: str


def _line_end(text: str, position: int) -> int:
    """Return the position of the line break at or after `position`, or of the text's end."""
    found = text.find("\n", position)
    end = len(text) if found < 0 else found
    return end - 1 if end > position and text[end - 1] == "\r" else end


def _shifted(lines: str, columns: int) -> str:
    """Move lines to the right, or to the left for negative `columns`. Blank lines stay."""
    if columns >= 0:
        return re.sub(r"^(?=[^\n])", " " * columns, lines, flags=re.MULTILINE)
    return re.sub(rf"^ {{0,{-columns}}}", "", lines, flags=re.MULTILINE)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
