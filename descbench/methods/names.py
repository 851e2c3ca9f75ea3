"""The baselines: the name alone, in one template, or in many."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.errors import InputError
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


@dataclass(frozen=True, repr=False)
class Templates(Method):
    """The name in a list of templates, their features averaged (prompt ensembling, Radford et al. 2021, section 3.1.4).

    The list that is shipped is of our own wording, not the 80 templates of the authors: figures differ a little.
    """

    spelled: ClassVar[str] = "templates"

    list: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.list, str):
            raise InputError(f"templates takes a list, as in templates([{self.list!r}]); template takes one")
        object.__setattr__(self, "list", tuple(self.list))
        for template in self.list:
            checked(template)

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        chosen = self.list or shipped_templates()
        return TextBank.of(vocabulary, [[fill(t, name) for t in chosen] for name in vocabulary.names])
