"""What replies say: pure, tolerant, counted. A parser never guesses; what it mends or leaves out, it counts by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from descbench.prompts import Reply
from descbench.salvage import json_values
from descbench.vocabulary import normalise

T = TypeVar("T")


def _strict(**properties: Any) -> dict[str, Any]:
    """The JSON schema of an object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}

SCHEMAS: dict[str, dict[str, Any]] = {
    "features": _strict(features=_array(_TEXT)),
    "sentences": _strict(sentences=_array(_TEXT)),
    "pairs": _strict(pairs=_array(_strict(attribute=_TEXT, first=_TEXT, second=_TEXT))),
    "contrast": _strict(classes=_array(_strict(name=_TEXT, captions=_array(_TEXT)))),
}
"""The forms that a question can ask for (`Question.schema`), as strict JSON schemas: an object, all of it required."""


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """What a reply says, and how many of its lines or items were mended or left out, by kind (none: a clean reply)."""

    items: T
    repairs: Mapping[str, int] = field(default_factory=dict)


OTHER_FORM = "not in the form that was asked for"


def repairs_of(parsed: Iterable[Parsed[Any]]) -> dict[str, dict[str, int]]:
    """What was mended in several replies, summed up, as the provenance of descriptions records it."""
    summed: Counter[str] = Counter()
    for one in parsed:
        summed.update(one.repairs)
    return {"repairs": dict(sorted(summed.items()))} if summed else {}


def parse_features(reply: Reply) -> Parsed[list[str]]:
    """The features that a reply lists, in order: a bulleted or numbered list, or JSON. Prose gives none.

    A last item that was cut off is left out, and so is all that follows a leaked question or a turn to another class.
    """
    repairs: Counter[str] = Counter()
    text = _spoken(reply, repairs)
    found = _json_texts(text, "features", repairs) or _of_first_tag(_bullets(text, _is_cut(reply), repairs), repairs)
    return Parsed(found, _kinds(repairs))


def parse_sentences(reply: Reply) -> Parsed[list[str]]:
    """The sentences of a reply, in order, each as it stands: prose, a list of them, or JSON. A refusal gives none."""
    repairs: Counter[str] = Counter()
    text = _spoken(reply, repairs)
    found = _json_texts(text, "sentences", repairs)
    if not found:
        apart: Counter[str] = Counter()  # what was mended in a list counts only if there is one
        found = _bullets(text, _is_cut(reply), apart)
        if found:
            repairs += apart
        elif not _REFUSAL.match(text.lstrip()):
            found = _prose(text, _is_cut(reply), repairs)
    return Parsed(found, _kinds(repairs))


def parse_pairs(reply: Reply) -> Parsed[list[tuple[str, str, str]]]:
    """The (attribute, caption of the first, caption of the second) that a reply lists, in order: from lines
    `- attribute: one caption | the other`, or from JSON.

    A caption without its partner cannot tell two classes apart, and is left out.
    """
    repairs: Counter[str] = Counter()
    text = _spoken(reply, repairs)
    for value, apart in json_values(text, _MARK):
        entries = _entries(value, "pairs", apart)
        if pairs := [pair for entry in entries if (pair := _pair(entry, apart))]:
            apart["not a pair"] += len(entries) - len(pairs)
            return Parsed(pairs, _kinds(repairs + apart))
    pairs = []
    for line in _bullets(text, _is_cut(reply), repairs):
        attribute, _, captions = line.partition(":")
        both = [_clean(caption, repairs) for caption in captions.split("|")]
        if len(both) == 2 and all(both) and attribute.strip() and "|" not in attribute:
            pairs.append((_clean(attribute, repairs), both[0], both[1]))
        else:
            repairs["not a pair"] += 1
    return Parsed(pairs, _kinds(repairs))


def parse_contrast(reply: Reply, names: Sequence[str]) -> Parsed[dict[str, list[str]]]:
    """The captions that a reply gives for each of several classes: {name: [caption]}, for those that have some.

    From JSON (an object by name, or a list of objects with "name" and "captions"), from lines `name: caption; caption`,
    or from bullets under a heading. Captions for a name that was not asked for are counted, not given to another.
    """
    repairs: Counter[str] = Counter()
    text = _spoken(reply, repairs)
    asked = {normalise(name): name for name in names} | {name: name for name in names}
    for value, apart in json_values(text, _MARK):
        if found := _captions(value, asked, apart):
            return Parsed(found, _kinds(repairs + apart))
    return Parsed(_named_lines(text, _is_cut(reply), asked, repairs), _kinds(repairs))


def reason(reply: Reply) -> str:
    """Why a reply holds nothing usable, in a few words; meant for one from which its parser took nothing."""
    if not reply.answered:
        return str(reply.details.get("error") or "no reply came")
    if reply.finish_reason == "content_filter":
        return "withheld by a content filter"
    text = _spoken(reply, Counter())
    if reply.finish_reason == "refusal" or (_REFUSAL.match(text.lstrip()) and not _has_list(text)):
        return "refusal"
    if reply.finish_reason == "length":
        return "cut off" if text.strip() or not reply.text.strip() else "cut off while thinking"
    if not text.strip():
        return "empty reply" if not reply.text.strip() else "nothing after its thinking"
    return OTHER_FORM if _has_list(text) else "no list in it"


# What is common to all replies.


def _kinds(repairs: Counter[str]) -> dict[str, int]:
    """The kinds that occurred."""
    return dict(+repairs)


# At the start of a reply that has no list; "Sorry-looking eyes" and "I" in a caption are none.
_REFUSAL = re.compile(
    r"(?:(?:I['’]m|I am) (?:very |so |really )?(?:sorry|afraid|unable|not able)\b"
    r"|I (?:can['’]t|cannot|can not|could not|couldn['’]t|won['’]t|will not|must decline|do not|don['’]t)\b"
    r"|I apologi[sz]e\b"
    r"|(?:Sorry|Apologies|My apologies|Unfortunately)(?:[,.!;:]| (?:but|for|that)\b| I\b)"
    r"|As an? (?:AI|language model|artificial)\b)",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINKS = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)


def _is_cut(reply: Reply) -> bool:
    return reply.finish_reason in ("length", "content_filter")


def _spoken(reply: Reply, repairs: Counter[str]) -> str:
    """The text of a reply without what the model thought before it, which may lack its opening mark."""
    if reply.finish_reason == "refusal":
        return ""
    text = reply.text
    end = 0
    for mark in _THOUGHT.finditer(text):
        end = mark.end()
    if end or _THINKS.match(text):
        repairs["thinking"] += 1
        return text[end:] if end else ""
    return text


def _clean(text: str, repairs: Counter[str]) -> str:
    """One item as a text, without bold marks, quotes around it, and closing commas or semicolons; a ruler is none."""
    plain = text.strip()
    if plain.isascii() and plain[:1].isalnum() and plain[-1] not in ",;" and "**" not in plain:
        return plain
    # A lone surrogate, which JSON can spell, fits into no file.
    plain = text.encode(errors="ignore").decode().replace("**", "")
    repairs["bold"] += "**" in text
    plain = plain.strip().rstrip(",;").strip()
    if len(plain) >= 2 and plain[0] + plain[-1] in ('""', "''", "“”", "‘’"):
        repairs["quotes"] += 1
        plain = plain[1:-1].strip()
    return plain if plain.strip("-*•–—_=.:,;|#` \t\"'") else ""


def _has_list(text: str) -> bool:
    return bool(_bullets(text, False, Counter())) or any(True for _ in json_values(text, _MARK))


# Bulleted lists.

# A reply that is a plain list of hyphens and needs nothing mended; what could be a mark, a fence, a heading, JSON or a
# thought is not in it. Most replies are such, and there may be half a million of them.
_ITEM = r"- [A-Za-z0-9][ !#-&(-)+-;=?-Z^_a-z|~]*[A-Za-z0-9.)|]"
_PLAIN = re.compile(rf"(?:{_ITEM}\n)*{_ITEM}\n?")

# Neither "**Bold:**", "*italic*" nor "3.5 inches" begins with a mark.
_MARK = re.compile(r"(?:[-•–—▪◦‣·]|\*(?=\s|$|[^*\s][^*]*$)|\(?(?P<number>\d{1,2})[.)](?!\d))\s*")
_QUESTION = re.compile(r"(?:Q\d*|Question)\s*:", re.IGNORECASE)
# A heading that goes on with the same class; a heading that leaves it, seen in replies of large models.
_MORE = re.compile(r"(?:some |a few |here are (?:some )?)?(?:other|more|additional|also|secondary)\b", re.IGNORECASE)
_TURN = re.compile(
    r"(?:and )?(?:for|in contrast|by contrast|in comparison|by comparison|conversely|on the other hand|unlike|whereas"
    r"|while|versus|compared?|not)\b"
    r"|.*\b(?:has|have|is|are|would|include|includes|features)\s*:?$"
    r"|.*\b(?:of|from|to|in|by) (?:an?|the)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_TAG = re.compile(r"(?P<item>.+\S)\s*\((?P<tag>[^()]{1,60})\)$")


@dataclass(frozen=True)
class _Line:
    """A line that is not blank: how far it is indented, whether a mark stood before it, and what it says."""

    indent: int
    mark: re.Match[str] | None
    body: str

    @property
    def is_heading(self) -> bool:
        return self.body.startswith("#") or self.body.replace("**", "").rstrip().endswith(":")

    @property
    def is_bold(self) -> bool:
        return len(self.body) > 4 and self.body.startswith("**") and self.body.endswith("**")


def _lines(text: str, cut: bool, repairs: Counter[str]) -> list[_Line]:
    """The lines of a text that are not blank; without the last where the reply was cut off in it."""
    found = []
    raw = text.splitlines()
    if cut and raw and not text.endswith("\n"):
        raw.pop()
        repairs["cut ending"] += 1
    for line in raw:
        said = line.strip()
        if said.startswith("```"):
            repairs["fence"] += 1
        elif said:
            mark = _MARK.match(said)
            found.append(_Line(len(line) - len(line.lstrip()), mark, said[mark.end() :] if mark else said))
    return found


def _bullets(text: str, cut: bool, repairs: Counter[str]) -> list[str]:
    """The items of the first list in a text, cleaned.

    What another class or a leaked question brings is left out. A heading among the items is none.
    """
    if not cut and _PLAIN.fullmatch(text):
        return [line[2:] for line in text.splitlines()]
    found: list[str] = []
    before, after = "", ""  # what stood before the list; why what follows is not of it
    lines = _lines(text, cut, repairs)
    for line, following in zip(lines, [*lines[1:], None], strict=False):
        holds = following is not None and following.mark is not None and following.indent > line.indent
        heading = line.is_heading or (line.is_bold and (not line.mark or holds))
        if line.mark and not heading:
            if after:
                repairs[after] += 1
            elif item := _clean(line.body, repairs):
                found.append(item)
                if line.mark.group().strip() != "-":
                    repairs["numbered" if line.mark["number"] else "other bullet"] += 1
            else:
                repairs["blank"] += 1
            continue
        repairs["heading" if heading else "prose"] += 1
        if not found:
            before += _words(line.body[:2000]) if len(before) < 2000 else ""
        elif not after:
            after = _turn(line, before)
    return found


def _words(text: str) -> str:
    """The words of a text without a plural's ending, a blank on both sides, so that whole words are found in it."""
    return " ".join(["", *(word.removesuffix("s") for word in _WORD.findall(text.casefold())), ""])


def _turn(line: _Line, before: str) -> str:
    """Why the items after a line are not of the list before it: "" where it is a heading within the list."""
    said = re.sub(r"\([^()]*\)", "", line.body).strip("#*: \t")
    if _QUESTION.match(said) or said.endswith("?"):
        return "leaked question"
    if not said or _MORE.match(said):
        return ""
    # A class stands over a list of its own where the preamble has announced it ("features of a Boxer and a Persian").
    words = _words(said[:300])
    if words.strip() and words in before:
        return "other class"
    if line.mark:  # "- several layers, including:"
        return ""
    return "other class" if _TURN.match(said[:300]) or len(said.split(maxsplit=7)) > 6 else ""


def _of_first_tag(items: list[str], repairs: Counter[str]) -> list[str]:
    """Where each item names its class in brackets ("sleek coat (Bombay)"), those of the class that is named first."""
    tags = [_TAG.match(item) for item in items]
    often = Counter(tag["tag"].casefold() for tag in tags if tag)
    if len(often) != 2 or min(often.values()) < 2 or not all(tags):
        return items
    first = next(iter(often))
    repairs["other class"] += len(items) - often[first]
    return [tag["item"] for tag in tags if tag and tag["tag"].casefold() == first]


# Prose.

_SENTENCE_END = re.compile(r"(?<=[.!?])(?:[\"'”’)])?\s+(?=[^\sa-z])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:St|Mt|Mr|Mrs|Ms|Dr|No|vs|cf|ca|approx|[A-Z]|e\.g|i\.e)\.$")
_ENDED = (".", "!", "?", '."', ".”", ".'", ".’", ".)", '!"', '?"')


def _prose(text: str, cut: bool, repairs: Counter[str]) -> list[str]:
    """The sentences of each line; a line without an ending is one, unless the reply was cut off in it."""
    found: list[str] = []
    lines = _lines(text, False, repairs)
    for line in lines:
        if line.is_heading or line.is_bold:
            repairs["heading"] += 1
        elif found and _QUESTION.match(line.body):
            repairs["leaked question"] += 1
            break
        else:
            found.extend(_sentences(line.body))
    if cut and found and not text.endswith("\n") and not found[-1].endswith(_ENDED):
        found.pop()
        repairs["cut ending"] += 1
    return [clean for sentence in found if (clean := _clean(sentence, repairs))]


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        so_far = line[max(start, end.start() - 12) : end.start()]
        if not _ABBREVIATION.search(so_far):
            yield line[start : end.end()].strip()
            start = end.end()
    yield line[start:].strip()


# JSON.


def _entries(value: Any, key: str, repairs: Counter[str]) -> list[Any]:
    """The list in a JSON value: itself, what stands under `key`, or else the first list of an object."""
    for _ in range(3):
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            return []
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        if key not in value and lists:
            repairs["other list"] += len(lists) - 1
        objects = [inner for inner in value.values() if isinstance(inner, dict)]
        several = [[*value.values()]] if len(value) > 1 else []  # {"1": "a comb", "2": "two legs"}
        value = value[key] if key in value else next(iter([*lists, *objects, *several]), [])
    return []


def _json_texts(text: str, key: str, repairs: Counter[str]) -> list[str]:
    """The texts of the JSON in a reply."""
    for value, apart in json_values(text, _MARK):
        entries = _entries(value, key, apart)
        found = [clean for entry in entries if (clean := _clean(_text(entry), apart))]
        if found:
            apart["blank"] += len(entries) - len(found)
            repairs.update(+apart)
            return found
    return []


def _text(entry: Any) -> str:
    """An entry of a list as a text: itself, or the one text of an object that is meant."""
    if isinstance(entry, dict):
        texts = {key: value for key, value in entry.items() if isinstance(value, str)}
        named = [texts[key] for key in ("feature", "sentence", "caption", "text", "description") if key in texts]
        entry = named[0] if named else next(iter(texts.values())) if len(texts) == 1 else ""
    return entry if isinstance(entry, str) else ""


def _pair(entry: Any, repairs: Counter[str]) -> tuple[str, str, str] | None:
    """(attribute, first, second) of an object of ours, or of FuDD's form with "attr_type" and "prompt_pair"."""
    if not isinstance(entry, dict):
        return None
    both = entry.get("prompt_pair", [entry.get("first"), entry.get("second")])
    if not isinstance(both, list) or len(both) != 2 or not all(isinstance(text, str) for text in both):
        return None
    first, second = (_clean(text, repairs) for text in both)
    attribute = entry.get("attribute", entry.get("attr_type", ""))
    named = _clean(attribute, repairs) if isinstance(attribute, str) else ""
    return (named, first, second) if first and second else None


# Captions for several classes.


def _captions(value: Any, asked: Mapping[str, str], repairs: Counter[str]) -> dict[str, list[str]]:
    """The captions of each class in a JSON value, by the name as it was asked."""
    if isinstance(value, dict) and isinstance(value.get("classes"), list | dict):
        value = value["classes"]
    if isinstance(value, list):
        value = {
            entry["name"]: entry.get("captions")
            for entry in value
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
    found: dict[str, list[str]] = {}
    for said, captions in value.items() if isinstance(value, dict) else ():
        name = _asked(said, asked)
        listed = captions if isinstance(captions, list) else [captions]
        texts = [_clean(_text(caption), repairs) for caption in listed]
        if name is None:
            repairs["unknown name"] += 1
        elif any(texts):
            found.setdefault(name, []).extend(filter(None, texts))
    return found


def _asked(said: str, asked: Mapping[str, str]) -> str | None:
    plain = said.replace("**", "").strip("#*: \t\"'“”")
    return asked.get(plain) or asked.get(normalise(plain[:1000])) or asked.get(said)


def _named_lines(text: str, cut: bool, asked: Mapping[str, str], repairs: Counter[str]) -> dict[str, list[str]]:
    """The captions in lines `name: caption; caption`, or in bullets under a name."""
    found: dict[str, list[str]] = {}
    under: str | None = None
    for line in _lines(text, cut, repairs):
        head, colon, rest = line.body.partition(":")
        rest = rest.strip("* \t")
        name = _asked(line.body if not rest else head, asked)
        if name is not None and (colon or line.is_heading or line.is_bold):
            captions = [clean for part in re.split("[;|]", rest) if (clean := _clean(part, repairs))]
            found.setdefault(name, []).extend(captions)
            under = None if rest else name
        elif under is not None and line.mark and not line.is_heading:
            if clean := _clean(line.body, repairs):
                found[under].append(clean)
        elif line.mark or line.is_heading or line.is_bold:
            under = None
            repairs["unknown name"] += 1
        else:
            repairs["prose"] += 1
    return {name: captions for name, captions in found.items() if captions}
