"""A file or folder that is being read as descriptions: opened once, and with a count of what was left out of it."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from descbench.errors import DescbenchWarning, InputError, listed
from descbench.files import checked_texts, parse_json, read_text
from descbench.vocabulary import Vocabulary

_LARGE = 10_000_000  # characters: a second or so of parsing
_STRING = r'"(?:[^"\\]|\\.)*"\s*'
# How every form begins: a text, a list of texts, or an object of lists; not with records or numbers.
_BEGINNING = re.compile(rf'\s*(?:\[\s*"|\{{\s*{_STRING}:\s*(?:"|\[\s*["\]]|\{{\s*(?:\}}|{_STRING}:\s*\[)))')
_LONGEST_REPLY = 1 << 20  # characters: a longer first line is a JSON file on one line, and no reply of a batch


@dataclass
class Source:
    """`path`, read when it is first looked at. Readers take their texts through `texts`, which counts blank ones."""

    path: Path
    vocabulary: Vocabulary | None = None
    blank: Counter[str] = field(default_factory=Counter)  # of each class
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def text(self) -> str:
        found = read_text(self.path)
        if not found.strip():
            raise InputError(f"{self} is empty; a file of descriptions holds at least one class")
        return found

    @cached_property
    def data(self) -> Any:
        """The JSON of the file; raises `InputError` where it is none, without parsing it where it is large and begins
        as no form does."""
        if len(self.text) > _LARGE and not _BEGINNING.match(self.text[:100_000]):
            raise InputError(f"{self} is JSON, but holds no descriptions: it begins with {self.text[:60]!r}")
        return parse_json(self.text, str(self))

    @cached_property
    def kind(self) -> str:
        """ "folder", "lines" (JSON lines with a custom_id), "json" or "table": told by the first characters."""
        if self.path.is_dir():
            return "folder"
        start = re.search(r"\S", self.text)
        if start is None or start[0] not in "[{":
            return "table"
        return "lines" if any(map(_has_custom_id, self.text.split("\n", 5)[:5])) else "json"

    def object(self) -> dict[str, Any]:
        """The JSON object of the file, empty where it holds something else: what the formats are told by."""
        return self.data if self.kind == "json" and isinstance(self.data, dict) else {}

    def texts(self, given: Any, name: str) -> list[str]:
        """A list of texts about the class `name`, as given; blank ones are left out and counted."""
        where = f"{self}, class {name!r:.80}"
        if isinstance(given, list):
            for number, text in enumerate(given):
                if not isinstance(text, str):
                    raise InputError(f"{where}: text {number} must be a text in double quotes, given: {text!r:.80}")
        found = checked_texts(given, where)
        if len(found) < len(given):
            self.blank[name] += len(given) - len(found)
        return found

    def warn(self) -> None:
        """Say what was left out, in one `DescbenchWarning`."""
        told = list(self.notes)
        if self.blank:
            each = [f"{name} ({count})" if count > 1 else name for name, count in self.blank.items()]
            told.insert(0, f"{self.blank.total()} blank texts left out ({listed(each)})")
        if told:
            warnings.warn(f"{self}: {'; '.join(told)}", DescbenchWarning, stacklevel=3)


def _has_custom_id(line: str) -> bool:
    if '"custom_id"' not in line[:_LONGEST_REPLY] or len(line) > _LONGEST_REPLY:
        return False
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("custom_id"), str)
