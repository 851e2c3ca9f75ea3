"""CuPL: a class is the mean feature of the sentences that a language model says about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.methods.base import POOLS, Method, Pool, Subject, choice, text, whole, with_texts
from descbench.methods.cascade import Cascade, changed
from descbench.methods.names import FromFile, Templates, template_list
from descbench.parsing import parse_sentences, repairs_of
from descbench.prompts import Question, Reply
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary, normalise

FORMS = "\n---\n"
# By sound, where the first letter misleads: a silent h; a vowel that begins as "you" does, or as "one".
_AN = re.compile(r"hour|heir|hono|honest|(?!eu|ewe|uni(?![dlmn])|us[aeu]|ut[ei]|ura|ubi|uku|ufo|one\b|once)[aeiou]")


def with_article(name: str) -> str:
    """A name with its article, by sound.

    >>> with_article("hen"), with_article("auk"), with_article("European robin"), with_article("hourglass")
    ('a hen', 'an auk', 'a European robin', 'an hourglass')
    """
    return f"{'an' if _AN.match(normalise(name)) else 'a'} {name}"


def in_forms(prompt: str, samples: int, vocabulary: Vocabulary, subject: Subject, attempt: int) -> list[Question]:
    """The questions about a class by a prompt that asks for sentences: each of its forms, `samples` times."""
    name = plain(vocabulary.name(subject[0]))
    slots = {"name": name, "a_name": with_article(name), "domain": vocabulary.domain or "objects"}
    forms = [form.strip() for form in prompts.fill(prompt, **slots).split(FORMS)]
    drawn = range(attempt * samples, (attempt + 1) * samples)
    return [Question(form, sample, prompt) for form in forms if form for sample in drawn]


def sentences(subject: Subject, replies: Sequence[Reply]) -> Descriptions:
    """All sentences of the replies about a class, as they stand."""
    parsed = [parse_sentences(reply) for reply in replies]
    found = [sentence for one in parsed for sentence in one.items]
    return Descriptions({subject[0]: found} if found else {}, provenance=repairs_of(parsed))


@dataclass(frozen=True, repr=False)
class CuPL(Method):
    """A class is the mean feature of sentences about it, as they are (Pratt et al. 2023, "What does a platypus look
    like?"). `with_templates` averages over the texts of `templates` as well; there each text counts the same.

    Differs from the authors' code: a current model is asked for three sentences at once, in five forms of our own
    wording, each `samples` times; theirs stops at the first full stop, and draws 10 samples at a temperature of 0.99.
    """

    spelled: ClassVar[str] = "cupl"
    asks_about: ClassVar[Literal["nothing", "class", "pair"]] = "class"
    truncates: ClassVar[bool] = True  # as in the paper

    prompt: str = "cupl"
    samples: int = 2  # of each form: ten questions a class give some 30 sentences; the paper draws 10 of one each
    with_templates: bool = False
    templates: tuple[str, ...] = ()  # other ones than the shipped; or the name of a file, which is read at once
    pool: Pool = "mean_feature"  # the paper's; the texts stand as they are, so that any list of texts can be pooled

    def __post_init__(self) -> None:
        text("prompt", self.prompt)
        whole("samples", self.samples, 1)
        choice("with_templates", self.with_templates, (False, True))
        choice("pool", self.pool, POOLS)
        object.__setattr__(self, "templates", template_list(self.templates))
        if self.templates and not self.with_templates:
            raise InputError("cupl uses templates only with_templates=True; give both, or neither")

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        return in_forms(self.prompt, self.samples, vocabulary, subject, attempt)

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        return sentences(subject, replies)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        said = with_texts(descriptions.classes, vocabulary)
        bank = TextBank.of(vocabulary, said)
        if not self.with_templates:
            return bank
        wrapped = Templates(self.templates).texts(vocabulary, descriptions)
        both = TextBank.of(vocabulary, [[*wrapped.texts_of(i), *texts] for i, texts in enumerate(said)])
        # Templates are no description: a class that has only those is counted.
        return replace(both, undescribed=np.array(bank.undescribed))


def with_templates(method: Method | Cascade, given: tuple[str, ...]) -> Method | Cascade:
    """The same method with these templates in place of the shipped ones, where it uses those."""

    def change(stage: Method) -> Method:
        name = _field(stage)
        return replace(stage, **{name: given}) if name and not getattr(stage, name) else stage

    return changed(method, change)


def title(method: Method | Cascade) -> str:
    """A spelling for people, in which templates from a file are counted: "templates: 80 of photo80.json"."""
    files: dict[str, None] = {}

    def change(stage: Method) -> Method:
        name = _field(stage)
        if not name or not isinstance(own := getattr(stage, name), FromFile):
            return stage
        files[str(own)] = None
        return replace(stage, **{name: ()})

    spelled = repr(changed(method, change))
    return f"{spelled}: {', '.join(files)}" if files else spelled


def _field(stage: Method) -> str:
    """The parameter that holds a method's templates; "" for a method that uses no list of them."""
    if isinstance(stage, Templates):
        return "list"
    return "templates" if isinstance(stage, CuPL) and stage.with_templates else ""
