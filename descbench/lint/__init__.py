"""What is wrong with a file of descriptions, as far as reading it can tell: each finding names a text and a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median

from descbench.descriptions import Descriptions, Pair, side_of
from descbench.errors import listed
from descbench.lint.copies import Folds, leaked, on_both_sides, repeated
from descbench.lint.findings import CODES, Code, Finding, Subject, found_in, subjects_of
from descbench.lint.names import named
from descbench.lint.texts import Judge, clean, estimated_tokens

__all__ = ["CODES", "Code", "Finding", "clean", "estimated_tokens", "fixed", "lint"]


def lint(
    descriptions: Descriptions, *, token_count: Callable[[str], int] | None = None, context: int = 77
) -> list[Finding]:
    """All findings, in the order of `CODES` and then of the file; pure, and about linear in the number of texts.

    `token_count` says how many tokens a text has, start and end included; without it they are estimated. `context` is
    how many the encoder reads.
    """
    subjects = list(subjects_of(descriptions))
    judge, folds = Judge(token_count, context), Folds()
    found = [*empty(descriptions, subjects), *uneven(subjects)]
    for subject in subjects:
        found += repeated(subject, folds)
        for text in dict.fromkeys(subject.texts):
            found += [found_in(subject, code, text, said) for code, said in judge(text)]
    found += on_both_sides(descriptions, folds)
    found += named(descriptions, subjects)
    found += leaked(descriptions, folds)
    order = {code: number for number, code in enumerate(CODES)}
    return sorted(found, key=lambda finding: order[finding.code])


def fixed(descriptions: Descriptions, findings: Iterable[Finding]) -> Descriptions:
    """The same without what can be mended in safety; a text that no finding is about stays as it is, byte by byte.

    Blanks, bullets, bold marks and tags around a text go; so do a class's repeated texts, and texts that say nothing.
    A class's last text is never dropped: linting the result still finds it. Pairs and sets lose no text, since their
    captions belong together.
    """
    about: dict[tuple[int, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        if CODES[finding.code].mended:
            about[finding.ids].append(finding)
    classes = {id_: _mended(texts, about.get((id_,), ())) for id_, texts in descriptions.classes.items()}
    pairs: dict[Pair, tuple[list[str], list[str]]] = {}
    for (a, b), (first, second) in descriptions.pairs.items():
        pairs[a, b] = _cleaned(first, about.get((a, b), ())), _cleaned(second, about.get((b, a), ()))
    sets = {
        ids: {id_: _cleaned(texts, about.get(side_of(id_, ids), ())) for id_, texts in said.items()}
        for ids, said in descriptions.sets.items()
    }
    return replace(descriptions, classes=classes, pairs=pairs, sets=sets)


def _mended(texts: list[str], findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return texts
    drop: Counter[str] = Counter()
    for code in ("junk", "refusal", "duplicate", "same-folded"):
        for finding in findings:
            if finding.code == code:
                drop[finding.text] = drop[finding.text] + 1 if code == "duplicate" else len(texts)
    kept = []
    for text in reversed(texts):  # of several copies, the first stays
        if drop[text] > 0:
            drop[text] -= 1
        else:
            kept.append(text)
    return _cleaned(kept[::-1] or texts[:1], findings)


def _cleaned(texts: list[str], findings: Sequence[Finding]) -> list[str]:
    soiled = {finding.text for finding in findings if finding.code in ("markup", "blanks")}
    return [(clean(text) or text) if text in soiled else text for text in texts]


def empty(descriptions: Descriptions, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Classes that have a name and no text, and those without a caption in a pair or set; a file of such needs no
    descriptions of classes."""
    if descriptions.classes or not (descriptions.pairs or descriptions.sets):
        for id_ in sorted({*descriptions.names, *descriptions.classes}):
            if not descriptions.classes.get(id_):
                subject = Subject((id_,), descriptions.names.get(id_, ""), [])
                yield found_in(subject, "empty", "", "no description: it is scored by its bare name")
    for subject in subjects:
        if len(subject.ids) > 1 and not subject.texts:
            rivals = (descriptions.names.get(rival, "its rival") for rival in subject.ids[1:])
            yield found_in(subject, "empty", "", f"no caption against {listed(rivals)}")


def uneven(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Held against the median: a few long or short lists do not move it."""
    counts = [len(subject.texts) for subject in subjects if len(subject.ids) == 1 and subject.texts]
    usual = median(counts) if counts else 0
    for subject in subjects:
        count = len(subject.texts)
        if len(subject.ids) == 1 and usual >= 3 and count and (3 * count <= usual or count >= 3 * usual):
            texts = "text" if count == 1 else "texts"
            yield found_in(subject, "uneven", "", f"{count} {texts}, where half of the classes have {usual:g} or more")
