"""What a finding is, and the codes that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from descbench.descriptions import Descriptions

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


class Code(NamedTuple):
    """What a code stands for. A `mended` one is put right by `fixed`."""

    severity: str
    mended: bool
    about: str


CODES: dict[str, Code] = {
    "empty": Code("error", False, "a class without a description"),
    "junk": Code("error", True, "a text without a word in it"),
    "refusal": Code("error", True, "the language model answers that it cannot answer"),
    "url": Code("error", False, "a web address"),
    "leaked": Code("warning", False, "a line of another class's answer or of a prompt's example, copied"),
    "prompt": Code("warning", False, "a question, or the chatter around an answer"),
    "truncated": Code("warning", False, "a text that lost its end or its beginning"),
    "duplicate": Code("warning", True, "the very text once more in its class"),
    "same-folded": Code("warning", True, "the same text but for case, blanks and bullets"),
    "same-as-rival": Code("warning", False, "a caption that two classes of a pair or set share"),
    "too-long": Code("warning", False, "more tokens than the text encoder reads"),
    "rival-name": Code("warning", False, "the name of another class"),
    "negation": Code("warning", False, "what is not there"),
    "non-visual": Code("warning", False, "what a picture does not show"),
    "markup": Code("warning", True, "a bullet, bold marks or a tag left in the text"),
    "list": Code("info", False, "several lines or bullets in one text"),
    "blanks": Code("info", True, "blanks or line breaks around the text"),
    "own-name": Code("info", False, "the name of the class itself"),
    "uneven": Code("info", False, "a class with far fewer or far more texts than most"),
}


@dataclass(frozen=True)
class Finding:
    """`ids` is (class,), or (class, rival, ...) where it is about several; () where it is about the whole file."""

    code: str
    severity: str
    ids: tuple[int, ...]
    name: str
    text: str
    message: str


class Subject(NamedTuple):
    """The texts of a class, or those of one class of a pair or set against the others."""

    ids: tuple[int, ...]
    name: str
    texts: Sequence[str]


def subjects_of(descriptions: Descriptions) -> Iterator[Subject]:
    for side, texts in descriptions.sides():
        yield Subject(side, descriptions.names.get(side[0], ""), texts)


def found_in(subject: Subject, code: str, text: str, message: str) -> Finding:
    return Finding(code, CODES[code].severity, subject.ids, subject.name, text, message)


def these(words: str) -> frozenset[str]:
    return frozenset(words.split())
