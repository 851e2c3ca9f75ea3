"""The baselines: the name alone, in one template, or in many."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.files import encodable, parse_json, read_text
from descbench.methods.base import Method, Pool
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary


@cache
def shipped_templates() -> tuple[str, ...]:
    """The list that `templates` uses by default: our own wording, `prompts/templates/photo.json`."""
    path = prompts.folder() / "templates" / "photo.json"
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def fill(template: str, name: str) -> str:
    """A template with the name in place of its `{}`; a brace in a name is a brace."""
    return template.replace("{}", plain(name))


def checked(template: str) -> None:
    """Raises `InputError` where a template has no place for the name."""
    if not isinstance(template, str) or "{}" not in template:
        raise InputError(f"template {template!r} has no {{}}, the place of the name; as in 'a photo of a {{}}.'")


MOST = 8_000
"""How many characters the templates of a file may have together: a method is spelled with them, and still short."""

_PYTHON = re.compile(r"""\w+\s*=\s*[\[(]|\[\s*([fru]{0,2}'|lambda\b)|[fru]{0,2}(['"]).*\2,?$|lambda\b""")
"""How a list of Python begins, or a line in it."""


class FromFile(tuple[str, ...]):
    """Templates and the `file` that they were read from; equal to the same ones written out."""

    file: str

    def __str__(self) -> str:
        return f"{len(self)} of {self.file}"


def read_templates(path: str | Path) -> FromFile:
    """The templates of a file: a list in JSON, or a template a line; each has `{}` where the name goes.

    Raises `InputError` where there is no such file, one of them has no `{}`, or it is a list of Python code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {str(path)!r} of templates; give a list in JSON, or a text file with one a line")
    text = read_text(path).strip()
    json_text = text[:1] in ("[", "{") and not text.startswith("{}")
    for part in [text] if json_text else text.splitlines():
        if _PYTHON.match(part.strip()):
            raise InputError(
                f"{path} looks like Python code, which is not run here: {part.strip()!r:.60}. Write the list in JSON "
                "(double quotes, {} for the name), or a template a line without quotes"
            )
    found = parse_json(text, str(path)) if json_text else [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(found, list) or not all(isinstance(template, str) for template in found):
        raise InputError(f'{path} is no list of texts; write ["a photo of a {{}}.", ...], or a template a line')
    for template in found:
        if "{}" not in template:
            raise InputError(f"{path}: template {template!r:.80} has no {{}}, the place of the name")
        encodable(template, str(path))
    if not found:
        raise InputError(f"{path} has no template; write one a line, as: a photo of a {{}}.")
    if (length := sum(map(len, found))) > MOST:
        raise InputError(
            f"{path}: its {len(found)} templates have {length:,} characters, more than {MOST:,}; take fewer"
        )
    templates = FromFile(found)
    templates.file = path.name
    return templates


@dataclass(frozen=True, repr=False)
class ClassName(Method):
    """The bare name of a class (Radford et al. 2021, section 3.1.4, without prompt engineering)."""

    spelled: ClassVar[str] = "classname"

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return TextBank.of(vocabulary, [[plain(name)] for name in vocabulary.names])


@dataclass(frozen=True, repr=False)
class Template(Method):
    """The name in one template (Radford et al. 2021, section 3.1.4: "A photo of a {label}.")."""

    spelled: ClassVar[str] = "template"

    text: str = "a photo of a {}."

    def __post_init__(self) -> None:
        checked(self.text)

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return TextBank.of(vocabulary, [[fill(self.text, name)] for name in vocabulary.names])

    def __repr__(self) -> str:
        return f"template({self.text!r})"


def template_list(given: object) -> tuple[str, ...]:
    """The templates that a method is given: a list of them, or the name of a file; raises `InputError` for neither."""
    if isinstance(given, str):
        if "{}" in given:
            raise InputError(f"templates takes a list, as in templates([{given!r}]); template takes one")
        return read_templates(given)
    if isinstance(given, FromFile):
        return given
    if not isinstance(given, tuple | list):
        raise InputError(f"templates={given!r} is not possible; it is a list of templates, or the name of a file")
    for template in given:
        checked(template)
    return tuple(given)


@dataclass(frozen=True, repr=False)
class Templates(Method):
    """The name in a list of templates, their features averaged (prompt ensembling, Radford et al. 2021, section 3.1.4).

    `templates('FILE')` reads other ones when it is made (see `read_templates`), and is spelled with them from then on.
    The list that is shipped is of our own wording, not the 80 templates of the authors: figures differ a little.
    """

    spelled: ClassVar[str] = "templates"

    list: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "list", template_list(self.list))

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        chosen = self.list or shipped_templates()
        return TextBank.of(vocabulary, [[fill(t, name) for t in chosen] for name in vocabulary.names])
