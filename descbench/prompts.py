"""Questions for the language model and its replies, raw: a prompt is a text file with slots, and is filled here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, overload

from descbench.errors import InputError, listed, nearest


@dataclass(frozen=True)
class Question:
    """One request, exactly as it is sent. `sample` tells several replies to one text apart; `prompt` names the file.

    `schema` asks for a reply in JSON of that form (a key of `descbench.parsing.SCHEMAS`) where the language model can.
    """

    text: str
    sample: int = 0
    prompt: str = ""
    schema: str = ""


class LazyQuestions(Sequence[Question]):
    """Questions that are made when they are looked at: half a million long ones need not lie in memory at once.

    A subclass gives `__len__` and `at(place)`, for places from 0 on.
    """

    def at(self, place: int) -> Question:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        places = range(len(self))[index]
        return self.at(places) if isinstance(places, int) else [self.at(place) for place in places]


class Picked(LazyQuestions):
    """Some places of a sequence of questions, as a sequence."""

    def __init__(self, questions: Sequence[Question], places: Sequence[int]) -> None:
        self._questions = questions
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: int) -> Question:
        return self._questions[self._places[place]]


@dataclass(frozen=True)
class Reply:
    """What came back, raw: parsing is pure and outside the cache, so a better parser needs no new call.

    `finish_reason` is "stop", "length" for a reply that was cut off, "content_filter" or "refusal" for one that was
    withheld; or "unanswered" where none came: then `details["error"]` says why, and no cache keeps it.
    `usage` counts tokens: `prompt_tokens`, `completion_tokens`.
    `details` is for the record: "request" as it was sent, "mode", "request_id", "system_fingerprint".
    """

    text: str
    finish_reason: str = "stop"
    model: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        return self.finish_reason != "unanswered"

    @classmethod
    def unanswered(cls, why: str, **details: Any) -> Reply:
        """What stands in the place of a reply that did not come, so that the others are not lost with it."""
        return cls("", "unanswered", details={"error": why, **details})


def folder() -> Path:
    """Where the prompt files lie: in the installed package, or at the top of a checkout."""
    installed = Path(str(files("descbench"))) / "_prompts"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "prompts"


def names() -> list[str]:
    """The prompts that are shipped, by name."""
    return sorted(path.stem for path in folder().glob("*.txt"))


@cache
def load(name: str) -> Template:
    """A prompt by the name of a shipped file, or by the path of the user's own (anything with a dot or a slash).

    Raises `InputError` when there is no such prompt.
    """
    path = Path(name) if "/" in name or "." in name else folder() / f"{name}.txt"
    if not path.is_file():
        raise InputError(
            f"no prompt {name!r}{nearest(name, names()) or '.'} There are: {listed(names())}. "
            "Give one of these names, or the path of a text file of your own."
        )
    try:
        return Template(path.read_text(encoding="utf-8-sig").rstrip("\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"prompt {name!r} is not UTF-8 text ({error.reason} at byte {error.start})") from None


@cache
def _pieces(name: str) -> tuple[list[str], list[str]]:
    """A prompt cut at its slots, and their names: `Template.substitute` would cut it anew for each of many classes."""
    template = load(name)
    pieces, places, last = [""], [], 0
    for found in template.pattern.finditer(template.template):
        pieces[-1] += template.template[last : found.start()]
        last = found.end()
        if found["escaped"] is not None:
            pieces[-1] += "$"
        elif slot := found["named"] or found["braced"]:
            places.append(slot)
            pieces.append("")
        else:
            template.substitute()  # raises, and says where
    pieces[-1] += template.template[last:]
    return pieces, places


def fill(prompt: str, /, **slots: str) -> str:
    """The text of a prompt with its $slots filled; a slot that the caller does not know is an error.

    Raises `InputError` for an unknown slot or a stray dollar sign.
    """
    try:
        pieces, places = _pieces(prompt)
        filled = (piece + slots[place] for piece, place in zip(pieces, places, strict=False))
        return "".join(filled) + pieces[-1]
    except KeyError as error:
        raise InputError(
            f"prompt {prompt!r} has a slot ${error.args[0]} that its method does not fill. "
            f"Slots here: {listed('$' + slot for slot in slots)}; write $$ for a dollar sign."
        ) from None
    except ValueError as error:
        raise InputError(f"prompt {prompt!r} cannot be filled: {error}. Write $$ for a dollar sign.") from None
