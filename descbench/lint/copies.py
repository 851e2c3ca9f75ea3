"""Texts that stand where they stood before: in the same class, with a rival of it, or copied from elsewhere."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from descbench.descriptions import Descriptions, side_of
from descbench.lint.findings import WORD, Finding, Subject, found_in, these
from descbench.lint.names import words_of
from descbench.lint.texts import clean


def fold(text: str) -> str:
    """A text as CLIP's tokenizer sees it: neither case nor runs of blanks; and without bullets."""
    return " ".join(clean(text).casefold().split())


class Folds(dict[str, str]):
    """`fold` of each distinct text, once; a text of marks only stands for itself."""

    def __missing__(self, text: str) -> str:
        folded = self[text] = fold(text) or text
        return folded


def repeated(subject: Subject, folds: Folds) -> Iterator[Finding]:
    if len({folds[text] for text in subject.texts}) == len(subject.texts):
        return  # the usual case, and the folds of all texts are known from here on
    seen: set[str] = set()
    firsts: dict[str, str] = {}
    for text in subject.texts:
        first = firsts.setdefault(folds[text], text)
        if text in seen:
            yield found_in(subject, "duplicate", text, "stands here already")
        elif first != text:
            yield found_in(subject, "same-folded", text, f"the same as {first!r}")
        seen.add(text)


def on_both_sides(descriptions: Descriptions, folds: Folds) -> Iterator[Finding]:
    """Captions that a later class of the same pair or set has as well."""
    pairs = ((ids, dict(zip(ids, both, strict=True))) for ids, both in descriptions.pairs.items())
    together: Iterator[tuple[tuple[int, ...], Mapping[int, list[str]]]] = chain(pairs, descriptions.sets.items())
    for ids, said in together:
        later: dict[str, int] = {}
        found: list[Finding] = []
        for id_ in reversed(ids):
            subject = Subject(side_of(id_, ids), descriptions.names.get(id_, ""), said[id_])
            for text in dict.fromkeys(subject.texts):
                if (rival := later.get(folds[text])) is not None:
                    called = descriptions.names.get(rival, "its rival")
                    message = f"{called} has it as well, so it tells nothing apart"
                    found.append(found_in(subject, "same-as-rival", text, message))
            later.update((folds[text], id_) for text in subject.texts)
        yield from found


# Copied lines


class _Example(NamedTuple):
    """A worked example in a prompt: lines that a language model copies. `common` ones fit many classes, and count only
    beside others; `elsewhere` are words of classes that no line of it can be about; `home` names the class itself."""

    source: str
    home: frozenset[str]
    lines: frozenset[str]
    common: frozenset[str]
    elsewhere: frozenset[str]


_FOOD = "served sauce baked fried roasted grilled dough dish bread cheese butter savory beef meat cooked filling"
_THINGS = "wheel wheels engine metal plastic wooden screen buttons glass bricks concrete furniture"
_EXAMPLES = (
    _Example(
        "the lemur of DCLIP's prompt",
        frozenset({"lemur"}),
        frozenset(
            {
                "four-limbed primate",
                "four-limbed animal",  # as it comes back
                "black, grey, white, brown, or red-brown",
                "wet and hairless nose with curved nostrils",
                "wet and hairless nose",
                "furry bodies",
                "furry body",
                "clawed hands and feet",
                "long tail",
                "large eyes",
            }
        ),
        frozenset({"long tail", "large eyes", "furry body", "furry bodies"}),
        these(
            "amphibian reptile reptilian scales scaly scaled feathers plumage beak bill bird songbird fin fins gills"
            f" insect antennae {_FOOD} {_THINGS}"
        ),
    ),
    _Example(
        "the television of DCLIP's prompt",
        frozenset({"television", "tv"}),
        frozenset(
            {
                "electronic device",
                "black or grey",
                "large, rectangular screen",
                "stand or mount to support the screen",
                "one or more speakers",
                "power cord",
                "input ports for connecting to other devices",
                "remote control",
            }
        ),
        frozenset({"black or grey"}),
        these(
            "fur furry furred feathers feathered plumage beak bill paws snout muzzle whiskers mane hooves legs tail"
            f" wings fins scales petals leaves stem animal mammal bird fish insect dog cat breed reptile {_FOOD}"
        ),
    ),
)
_RUN = 4  # lines in a row that two answers do not share by chance
_ARTICLE = re.compile(r"^(?:an?|the) ")


def leaked(descriptions: Descriptions, folds: Folds) -> Iterator[Finding]:
    """Three traces of copying: lines of a known example, runs of lines, and rare words that unrelated classes share."""
    bare = {text: _ARTICLE.sub("", folded.rstrip(".")) for text, folded in folds.items()}
    lines = {id_: [bare[text] for text in texts] for id_, texts in descriptions.classes.items()}
    first: dict[str, int] = {}
    shared: dict[str, list[int]] = {}
    for id_, texts in lines.items():
        for line in dict.fromkeys(texts):
            if first.setdefault(line, id_) != id_:
                shared.setdefault(line, [first[line]]).append(id_)
    why: dict[tuple[int, str], str] = {}
    for id_, texts in lines.items():
        for line, source in _copied(descriptions.names.get(id_, ""), texts):
            why[id_, line] = f"word for word a line of {source}: does it fit here?"
    for ids, run in _runs(descriptions.names, lines, shared, why):
        for id_ in ids:
            for line in run:
                why.setdefault((id_, line), f"{len(run)} lines in a row are the same in {len(ids)} classes: copied?")
    for line in _strangers(descriptions.names, lines, shared):
        for id_ in shared[line]:
            why.setdefault((id_, line), f"{len(shared[line])} classes have it that share little else: copied?")
    for id_, texts in descriptions.classes.items():
        subject = Subject((id_,), descriptions.names.get(id_, ""), texts)
        for text, line in dict(zip(texts, lines[id_], strict=True)).items():
            if message := why.get((id_, line)):
                yield found_in(subject, "leaked", text, message)


def _copied(name: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(line, source) of a known example's lines: three together, or a single one where it cannot be true."""
    for example in _EXAMPLES:
        there = [line for line in lines if line in example.lines]
        telling = [line for line in there if line not in example.common]
        if not telling:
            continue
        others = [name.casefold(), *(line for line in lines if line not in example.lines)]
        if example.home & set(WORD.findall(name.casefold())):
            continue  # the class that the example is about
        impossible = not example.elsewhere.isdisjoint(WORD.findall(" ".join(others)))
        if impossible or len(there) >= 3:
            for line in there if len(there) >= 3 else telling:
                yield line, example.source


def _runs(
    names: Mapping[int, str],
    lines: Mapping[int, Sequence[str]],
    shared: Mapping[str, Sequence[int]],
    known: Mapping[tuple[int, str], str],
) -> Iterator[tuple[list[int], tuple[str, ...]]]:
    """Runs of lines that stand alike in three classes or more, or in two of which a line is known to be copied.

    Classes that share a word of their names are of one kind, and may well be described alike.
    """
    runs: dict[tuple[str, ...], list[int]] = defaultdict(list)
    homes = {word: example.lines for example in _EXAMPLES for word in example.home}
    for id_, texts in lines.items():
        its_own = {line for word in words_of(names.get(id_, "")) for line in homes.get(word, ())}
        for at in range(len(texts) - _RUN + 1):
            run = tuple(texts[at : at + _RUN])
            if all(line in shared for line in run) and len(set(run)) == _RUN and its_own.isdisjoint(run):
                runs[run].append(id_)
    for run, ids in runs.items():
        ids = list(dict.fromkeys(ids))
        copied = any((id_, line) in known for id_ in ids for line in run)
        if len(ids) >= (2 if copied else 3):
            kinds = [set(words_of(names.get(id_, ""))) for id_ in ids]
            if not set.intersection(*kinds):
                yield ids, run


_SMALL = these("a an the of or and with in on for to is are be may that which it its from by at as can has have used")


def _strangers(
    names: Mapping[int, str], lines: Mapping[int, Sequence[str]], shared: Mapping[str, Sequence[int]]
) -> Iterator[str]:
    """Lines of three telling words or more, in four classes or more that share no rare word besides, where two of the
    words hardly occur in any other line: "black wings with white spots" is made of words that are everywhere."""
    often = [line for line, ids in shared.items() if len(ids) >= 4]
    if not often:
        return
    content = {line: set(words_of(line)) - _SMALL for line in often}
    often = [line for line in often if len(content[line]) >= 3]
    if not often:
        return
    words = {id_: set(words_of(" ".join([names.get(id_, ""), *texts]))) - _SMALL for id_, texts in lines.items()}
    known_in = Counter(word for several in words.values() for word in several)  # in how many classes
    rare = max(3, len(lines) // 10)
    for line in often:
        ids = shared[line]
        rigid = [word for word in content[line] if known_in[word] <= 1.3 * len(ids)]
        if len(rigid) < 2:
            continue
        step = -(-len(ids) // 20)  # 190 pairs tell enough
        besides = [{w for w in words[id_] - content[line] if known_in[w] <= rare} for id_ in ids[::step]]
        pairs = list(combinations(besides, 2))
        if sum(bool(one & other) for one, other in pairs) <= len(pairs) // 10:
            yield line
