"""`descbench lint`: what is wrong with a file of descriptions, and what of it can be mended in safety."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import Encoder, Json, find_classes, note, print_json, progress_shown
from descbench.errors import InputError, SpecError, listed, nearest

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.lint import Finding

ERRORS_FOUND = 3
_WIDTH = 160  # letters of a text in the report


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Descriptions: a file of descbench's, or one that was published.")
    ],
    encoder: Encoder = None,
    vocabulary: Annotated[
        str | None,
        typer.Option("--vocabulary", "-c", help="All classes that there should be; those without a text are empty."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this code; may be given again.")] = None,
    most: Annotated[int, typer.Option("--max", min=0, help="Findings shown for each code; 0 shows all.")] = 5,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe; needs -o NEW.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The new file that --fix writes.")] = None,
    json: Json = False,
) -> None:
    """Look a file of descriptions over: empty classes, repeated, copied, cut-off or useless texts.

    The report counts findings by code, then shows the first of each. --encoder counts tokens with that encoder's own
    tokenizer; without it they are estimated, for 77. --fix never overwrites FILE, and never drops a class's last text.
    The exit code is 0 where no finding is an error, and 3 where one is; with --fix, of what is left.

    Example: descbench lint birds.desc.json --fix -o birds.clean.json
    """
    from descbench.edits import MARK, marked
    from descbench.formats import read_descriptions
    from descbench.lint import fixed, lint

    _check(only or [], file, fix, output)
    classes = find_classes(vocabulary, "") if vocabulary else None
    known = read_descriptions(file, classes, allow_missing=True) if classes else read_descriptions(file)
    counted = _counter(encoder, known) if encoder else {}

    def looked_over(descriptions: Descriptions) -> list[Finding]:
        found = lint(descriptions, **counted)
        return [finding for finding in found if not only or finding.code in only]

    findings = looked_over(known)
    left = findings
    mended: Descriptions | None = None
    if fix and output is not None:
        mended = fixed(known, findings)
        if known.provenance.get(MARK):  # what --fix writes, no person has edited
            mended = marked(mended, since=known)
        left = looked_over(mended)
        mended.save(output)
    if json:
        print_json(_as_json(file, known, findings, left if fix else None))
    else:
        _report(file, known, findings, most)
    if mended is not None:
        gone = len(known.texts) - len(mended.texts)
        changed = sum((Counter(mended.texts) - Counter(known.texts)).values())
        note(f"{gone} texts dropped and {changed} changed, {len(left)} findings left; written to {output}")
    if any(finding.severity == "error" for finding in left):
        raise typer.Exit(ERRORS_FOUND)


def _check(only: Sequence[str], file: Path, fix: bool, output: Path | None) -> None:
    from descbench.lint import CODES

    for code in only:
        if code not in CODES:
            raise SpecError(f"no code {code!r}{nearest(code, CODES) or '.'} There are: {listed(CODES, 40)}.")
    if fix and output is None:
        raise InputError("--fix writes a new file; add -o NEW")
    if output is not None and not fix:
        raise InputError(f"-o {output} is for what --fix mends; add --fix, or leave it away")
    if output is not None and output.exists() and file.exists() and output.samefile(file):
        raise InputError(f"{output} is the file that is looked over, and --fix does not overwrite it; name another one")


def _counter(spec: str, known: Descriptions) -> dict[str, Any]:
    """`token_count` and `context` for `lint`, all texts counted at once by the encoder's own tokenizer."""
    from descbench import spec as specs

    encoder = specs.encoder(spec)
    count: Callable[[list[str]], Sequence[int]] | None = getattr(encoder, "count_tokens", None)
    context: int | None = getattr(encoder, "context_length", None)
    if count is None or context is None:
        raise InputError(
            f"encoder {spec} does not say how many tokens a text has, or how many it reads; leave --encoder away, and "
            "they are estimated"
        )
    texts = list(dict.fromkeys(known.texts))
    with progress_shown():
        counts: Mapping[str, int] = dict(zip(texts, map(int, count(texts)), strict=True))

    def token_count(text: str) -> int:
        return counts[text] if text in counts else int(count([text])[0])  # --fix makes new texts

    return {"token_count": token_count, "context": context}


def _as_json(file: Path, known: Descriptions, findings: Sequence[Finding], left: Sequence[Finding] | None) -> Any:
    return {
        "file": str(file),
        "classes": len({*known.names, *known.classes}),
        "pairs": len(known.pairs),
        "sets": len(known.sets),
        "texts": len(known.texts),
        "counts": dict(Counter(finding.code for finding in findings)),
        **({} if left is None else {"left": dict(Counter(finding.code for finding in left))}),
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity,
                "class": finding.name,
                "ids": list(finding.ids),
                "text": finding.text,
                "message": finding.message,
            }
            for finding in findings
        ],
    }


def _report(file: Path, known: Descriptions, findings: Sequence[Finding], most: int) -> None:
    """Counts by code, then the first findings of each."""
    from descbench.lint import CODES

    several = [f"{n:,} {what}" for n, what in ((len(known.pairs), "pairs"), (len(known.sets), "sets")) if n]
    sizes = [f"{len({*known.names, *known.classes}):,} classes", *several, f"{len(known.texts):,} texts"]
    typer.echo(f"{file}: {', '.join(sizes)}")
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.code, []).append(finding)
    if not groups:
        typer.echo("nothing found")
        return
    for code, group in groups.items():
        kind = CODES[code]
        typer.echo(f"{len(group):>8,}  {kind.severity:<8} {code:<14} {kind.about}{' (--fix)' if kind.mended else ''}")
    for code, group in groups.items():
        typer.echo(f"\n{code}")
        for finding in group[: most or None]:
            typer.echo(f"  {_line(finding, known)}")
        if most and len(group) > most:
            typer.echo(f"  and {len(group) - most:,} more: --only {code} --max 0 shows all")


def _line(finding: Finding, known: Descriptions) -> str:
    """`class: "text" (message)`; of a pair or set, `class / rival / ...`."""
    together = (len(finding.ids) == 2 and known.pair(*finding.ids) is not None) or known.set(finding.ids) is not None
    rivals = [known.names[i] for i in finding.ids[1:] if i in known.names] if together else []
    where = " / ".join([finding.name, *rivals] if finding.name else [f"class {i}" for i in finding.ids])
    said = finding.message
    if finding.text:
        said = f'"{textwrap.shorten(finding.text, _WIDTH, placeholder=" ...") or repr(finding.text)}" ({said})'
    return f"{where}: {said}" if where else said
