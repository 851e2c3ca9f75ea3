"""Published files <-> Descriptions: one module a form, each detected by its content and joined by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from descbench.descriptions import FORMAT, Descriptions
from descbench.errors import DescbenchWarning, InputError, listed, nearest
from descbench.files import once, write_whole
from descbench.formats import adaptclipzs, comparative, dclip, disclip, fudd, openai_batch, table
from descbench.formats.source import Source
from descbench.vocabulary import Vocabulary


class Format(NamedTuple):
    """How to tell a format by the content of a file, and how to read it.

    `fits` is for a format that is asked for by name, where it takes more than it is told by.
    """

    detect: Callable[[Source], bool]
    read: Callable[[Source], Descriptions]
    fits: Callable[[Source], bool] | None = None


def _own(source: Source) -> bool:
    return source.object().get("format") == FORMAT


def _read_own(source: Source) -> Descriptions:
    found = Descriptions.from_json(once(source.data, source), source.path)
    for entry in source.data.get("classes", []):
        source.texts(entry["texts"], str(entry.get("name") or entry["id"]))  # counts the blank ones
    return found


def _never(source: Source) -> bool:
    return False


FORMATS: dict[str, Format] = {  # in the order in which they are tried
    "descbench": Format(_own, _read_own),
    "openai-batch": Format(openai_batch.detect, openai_batch.read),
    "fudd": Format(fudd.detect, fudd.read),
    "disclip": Format(disclip.detect, disclip.read),
    "comparative": Format(
        comparative.detect, comparative.read, lambda source: comparative.detect(source) or dclip.detect(source)
    ),
    "cupl": Format(dclip.has_sentences, dclip.read, dclip.detect),
    "dclip": Format(dclip.detect, dclip.read),
    "waffleclip": Format(
        _never, dclip.read_waffle, lambda source: dclip.detect(source) or dclip.is_shared(source)
    ),  # a dclip file in form
    "csv": Format(table.detect, table.read),
    "adaptclipzs": Format(adaptclipzs.detect, adaptclipzs.read),
}

WRITABLE = ("descbench", "dclip", "cupl", "fudd", "csv")


class Joined(NamedTuple):
    """A class of a file, the class of the vocabulary that it became, and how: "same", "case", "normalised" or "id"."""

    given: str
    name: str
    how: str


def read_descriptions(
    path: str | Path, vocabulary: Vocabulary | None = None, format: str = "auto", allow_missing: bool = False
) -> Descriptions:
    """Descriptions from a file or folder of any published format, under the ids of `vocabulary`.

    Joined by name, never by position (by number only where a file has numbers and no names). Without a vocabulary the
    ids are those of the file, in its order. With `allow_missing`, classes that only one side has are no error; a
    `DescbenchWarning` lists them. Another one says what was left out in reading, as blank texts.
    Raises `InputError` for a file of no known format, `MatchError` where its classes are not those of the vocabulary.
    """
    found = read(path, format, vocabulary)
    return found if vocabulary is None else join(found, vocabulary, allow_missing)


def read(path: str | Path, format: str = "auto", vocabulary: Vocabulary | None = None) -> Descriptions:
    """Descriptions as a file has them, not joined yet; the vocabulary is for files that name no classes themselves."""
    source = Source(Path(path), vocabulary)
    format = detected(source) if format == "auto" else _checked(format, source)
    found = FORMATS[format].read(source)
    source.warn()
    return found.merged(Descriptions(provenance={"file": source.path.name, "format": format}))


def join(descriptions: Descriptions, vocabulary: Vocabulary, allow_missing: bool = False) -> Descriptions:
    """The same under the ids of `vocabulary`; what only one side has is an error, or listed with `allow_missing`."""
    if not allow_missing:
        descriptions.check_fit(vocabulary)
    return descriptions.matched(vocabulary, allow_missing)


def detected(source: Source) -> str:
    """The format that a file or folder is of; raises `InputError` that says what it looks like instead."""
    for name, known in FORMATS.items():
        if known.detect(source):
            return name
    raise InputError(
        f"{source} holds no descriptions of a known format ({listed(FORMATS, 20)}): it is {_looks(source)}. "
        'The simplest is a JSON object: {"class name": ["description", ...]}'
    )


def _checked(format: str, source: Source) -> str:
    if format not in FORMATS:
        near = nearest(format, FORMATS) or "."
        raise InputError(f"no format {format!r}{near} There are: auto, {listed(FORMATS, 20)}.")
    asked = FORMATS[format]
    if not (asked.fits or asked.detect)(source):
        like = next((name for name, other in FORMATS.items() if other.detect(source)), "")
        looks = f"it looks like {like!r}" if like else f"it is {_looks(source)}"
        raise InputError(f"{source} is not of the format {format!r}: {looks}; try format 'auto'")
    return format


def _looks(source: Source) -> str:
    """What a file of no known format is, in a few words, and where it belongs if that is known."""
    if source.kind == "folder":
        there = [entry.name for entry in sorted(source.path.iterdir())]
        return f"a folder without text files; give one of these: {listed(there) or '(it is empty)'}"
    if source.kind == "table":
        return f"text without columns for a class and its descriptions: {source.text.strip().splitlines()[0]!r:.80}"
    if isinstance(source.data, list) and source.data and all(isinstance(text, str) for text in source.data):
        if all("{}" in text for text in source.data):
            return "a list of templates, which the method templates([...]) takes"
        return f"a list of {len(source.data)} texts, as class names are"
    if isinstance(source.data, dict) and source.data:
        key, value = next(iter(source.data.items()))
        return f"a JSON object with {key!r:.40}: {value!r:.40}"
    return f"JSON without classes: {source.data!r:.40}"


def mapping(descriptions: Descriptions, vocabulary: Vocabulary) -> list[Joined]:
    """Which class of a file became which class of the vocabulary, and how, in the order of the file's ids.

    Classes without a partner on the other side are not in it. Raises `MatchError` where a name fits several classes.
    """
    joined = []
    for id_, targets in descriptions.targets(vocabulary).items():
        given = descriptions.names.get(id_, str(id_))
        for name in map(vocabulary.name, targets):
            joined.append(Joined(given, name, _how(given, name) if descriptions.names else "id"))
    return joined


def _how(given: str, name: str) -> str:
    if given == name:
        return "same"
    return "case" if given.casefold() == name.casefold() else "normalised"


def write(descriptions: Descriptions, path: str | Path, format: str = "descbench") -> None:
    """Write what other tools read. dclip and cupl are one form; fudd writes X_prompt_pairs.json and, beside it,
    X_class_names.json; csv holds classes and pairs, and only descbench sets too.

    Warns (`DescbenchWarning`) of what a form cannot hold and leaves out.
    Raises `InputError` where it cannot hold the descriptions at all, and names the form that can.
    """
    if format not in WRITABLE:
        raise InputError(
            f"no format {format!r} to write{nearest(format, WRITABLE) or '.'} There are: {listed(WRITABLE)}."
        )
    path = Path(path)
    if descriptions.sets and format != "descbench":
        several = not (descriptions.classes or descriptions.pairs)
        _cannot_hold(f"{len(descriptions.sets)} sets", format, "descbench", everything=several)
    if format == "descbench":
        descriptions.save(path)
    elif format == "csv":
        write_whole(path, table.to_csv(descriptions))
    elif format == "fudd":
        _write_fudd(descriptions, path)
    else:
        _write_by_name(descriptions, path, format)


def _write_by_name(descriptions: Descriptions, path: Path, format: str) -> None:
    vocabulary = descriptions.vocabulary()
    names = vocabulary.names
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(
            f"{listed(map(repr, twice))}: several classes of one name, which cannot be keys of one object in "
            f"the format {format}; the format csv holds them"
        )
    if descriptions.pairs:
        _cannot_hold(f"{len(descriptions.pairs)} pairs", format, "fudd or csv", everything=not descriptions.classes)
    texts = {name: descriptions.classes.get(id_, []) for id_, name in vocabulary}
    write_whole(path, json.dumps(texts, indent=4, ensure_ascii=False) + "\n")


def _write_fudd(descriptions: Descriptions, path: Path) -> None:
    if not path.name.endswith(fudd.PAIRS):
        raise InputError(f"{path}: FuDD's form is two files; call this one X{fudd.PAIRS}, then X{fudd.NAMES} is beside")
    if not descriptions.pairs:
        raise InputError("there are no pairs, and FuDD's form holds nothing else; the format dclip holds classes")
    pairs, names = fudd.to_json(descriptions)
    if descriptions.classes:
        _cannot_hold(f"the descriptions of {len(descriptions.classes)} classes", "fudd", "dclip or csv")
    write_whole(path, json.dumps(pairs, indent=2, ensure_ascii=False) + "\n")
    beside = path.with_name(path.name.removesuffix(fudd.PAIRS) + fudd.NAMES)
    write_whole(beside, json.dumps(names, indent=2, ensure_ascii=False) + "\n")


def _cannot_hold(what: str, format: str, other: str, everything: bool = False) -> None:
    if everything:
        raise InputError(f"there are only {what}, which the format {format} cannot hold; {other} can")
    told = f"{what} left out, which the format {format} cannot hold; {other} can"
    warnings.warn(told, DescbenchWarning, stacklevel=4)
