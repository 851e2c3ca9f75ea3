"""What is wrong with a file of descriptions, as far as reading it can tell: each finding names a text and a reason."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from statistics import median
from typing import NamedTuple

from descbench.descriptions import Descriptions, Pair
from descbench.vocabulary import normalise


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
    "same-as-rival": Code("warning", False, "a caption that a pair has on both sides"),
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
    """`ids` is (class,), or (class, rival) where it is about two; () where it is about the whole file."""

    code: str
    severity: str
    ids: tuple[int, ...]
    name: str
    text: str
    message: str


class _Subject(NamedTuple):
    """The texts of a class, or those of one side of a pair."""

    ids: tuple[int, ...]
    name: str
    texts: Sequence[str]


def lint(
    descriptions: Descriptions, *, token_count: Callable[[str], int] | None = None, context: int = 77
) -> list[Finding]:
    """All findings, in the order of `CODES` and then of the file; pure, and about linear in the number of texts.

    `token_count` says how many tokens a text has, start and end included; without it they are estimated. `context` is
    how many the encoder reads.
    """
    subjects = list(_subjects(descriptions))
    judge, folds = _Judge(token_count, context), _Folds()
    found = [*_empty(descriptions, subjects), *_uneven(subjects)]
    for subject in subjects:
        found += _repeated(subject, folds)
        found += [_of(subject, code, text, said) for text in dict.fromkeys(subject.texts) for code, said in judge(text)]
    found += _on_both_sides(descriptions, folds)
    found += _named(descriptions, subjects)
    found += _leaked(descriptions, folds)
    order = {code: number for number, code in enumerate(CODES)}
    return sorted(found, key=lambda finding: order[finding.code])


def fixed(descriptions: Descriptions, findings: Iterable[Finding]) -> Descriptions:
    """The same without what can be mended in safety; a text that no finding is about stays as it is, byte by byte.

    Blanks, bullets, bold marks and tags around a text go; so do a class's repeated texts, and texts that say nothing.
    A class's last text is never dropped: linting the result still finds it. Pairs lose no text, since their captions
    belong together.
    """
    about: dict[tuple[int, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        if CODES[finding.code].mended:
            about[finding.ids].append(finding)
    classes = {id_: _mended(texts, about.get((id_,), ())) for id_, texts in descriptions.classes.items()}
    pairs: dict[Pair, tuple[list[str], list[str]]] = {}
    for (a, b), (first, second) in descriptions.pairs.items():
        pairs[a, b] = _cleaned(first, about.get((a, b), ())), _cleaned(second, about.get((b, a), ()))
    return replace(descriptions, classes=classes, pairs=pairs)


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


def _these(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Subjects


def _subjects(descriptions: Descriptions) -> Iterator[_Subject]:
    names = descriptions.names
    for id_, texts in descriptions.classes.items():
        yield _Subject((id_,), names.get(id_, ""), texts)
    for (a, b), (first, second) in descriptions.pairs.items():
        yield _Subject((a, b), names.get(a, ""), first)
        yield _Subject((b, a), names.get(b, ""), second)


def _of(subject: _Subject, code: str, text: str, message: str) -> Finding:
    return Finding(code, CODES[code].severity, subject.ids, subject.name, text, message)


def _empty(descriptions: Descriptions, subjects: Sequence[_Subject]) -> Iterator[Finding]:
    """Classes that have a name and no text, and sides of pairs without a caption. A file of pairs needs no classes."""
    if descriptions.classes or not descriptions.pairs:
        for id_ in sorted({*descriptions.names, *descriptions.classes}):
            if not descriptions.classes.get(id_):
                subject = _Subject((id_,), descriptions.names.get(id_, ""), [])
                yield _of(subject, "empty", "", "no description: it is scored by its bare name")
    for subject in subjects:
        if len(subject.ids) == 2 and not subject.texts:
            yield _of(subject, "empty", "", f"no caption against {descriptions.names.get(subject.ids[1], 'its rival')}")


def _uneven(subjects: Sequence[_Subject]) -> Iterator[Finding]:
    """Held against the median: a few long or short lists do not move it."""
    counts = [len(subject.texts) for subject in subjects if len(subject.ids) == 1 and subject.texts]
    usual = median(counts) if counts else 0
    for subject in subjects:
        count = len(subject.texts)
        if len(subject.ids) == 1 and usual >= 3 and count and (3 * count <= usual or count >= 3 * usual):
            texts = "text" if count == 1 else "texts"
            yield _of(subject, "uneven", "", f"{count} {texts}, where half of the classes have {usual:g} or more")


# Repetitions


def fold(text: str) -> str:
    """A text as CLIP's tokenizer sees it: neither case nor runs of blanks; and without bullets."""
    return " ".join(clean(text).casefold().split())


class _Folds(dict[str, str]):
    """`fold` of each distinct text, once; a text of marks only stands for itself."""

    def __missing__(self, text: str) -> str:
        folded = self[text] = fold(text) or text
        return folded


def _repeated(subject: _Subject, folds: _Folds) -> Iterator[Finding]:
    if len({folds[text] for text in subject.texts}) == len(subject.texts):
        return  # the usual case, and the folds of all texts are known from here on
    seen: set[str] = set()
    firsts: dict[str, str] = {}
    for text in subject.texts:
        first = firsts.setdefault(folds[text], text)
        if text in seen:
            yield _of(subject, "duplicate", text, "stands here already")
        elif first != text:
            yield _of(subject, "same-folded", text, f"the same as {first!r}")
        seen.add(text)


def _on_both_sides(descriptions: Descriptions, folds: _Folds) -> Iterator[Finding]:
    for (a, b), (first, second) in descriptions.pairs.items():
        others = {folds[text] for text in second}
        subject = _Subject((a, b), descriptions.names.get(a, ""), first)
        for text in dict.fromkeys(first):
            if folds[text] in others:
                rival = descriptions.names.get(b, "its rival")
                yield _of(subject, "same-as-rival", text, f"{rival} has it as well, so it tells nothing apart")


# What a text alone shows

# A bullet is none before a digit ("-40"). Digits, marks and at most one letter say nothing: "1.", "a.", "(b)".
_TAG = re.compile(r"</?(?:p|b|i|u|br|li|ul|ol|em|strong|span|div|h\d)\b[^<>]*>", re.IGNORECASE)
_BULLET = re.compile(r"^(?:[-–—](?![-–—\d])|[•·‣▪]|\*(?!\*)|\(?\d{1,2}[.)](?!\d)|[a-z]\)\s|A\s*:)\s*")
_SAYS_NOTHING = re.compile(r"^\W*(?:\d[\d\W]*)?[a-zA-Z]?\W*$")
_ITEM = re.compile(r"\n\s*[-*•]?|(?<=:)\s*[-*•]|(?<=\s)[-*•]\s?(?=[A-Z])")


def clean(text: str) -> str:
    """A text without blanks around it, bullets in front, bold marks and tags."""
    if text[:1].isalpha() and text[1:2] not in (")", ":", " ") and "**" not in text and "<" not in text:
        return text.rstrip()  # most texts: the rest would change nothing
    while (shorter := _BULLET.sub("", _TAG.sub("", text).replace("**", "").strip())) != text:
        text = shorter
    return text


_REFUSAL = re.compile(
    r"""\b(?:
        as\ an\ ai\b | i(?:['’]m|\ am)\ (?:so\ |very\ )?sorry | i(?:['’]m|\ am)\ not\ (?:sure|familiar|able|certain)
      | i\ (?:can\s?not|can['’]t|don['’]t|do\ not|am\ unable\ to)\ (?:\w+\ ){0,2}?
            (?:provide|describe|answer|know|have|help|assist|see|find|think|understand)
      | what\ (?:you\ are|you['’]re|is\ being)\ ask(?:ing|ed)
      | (?:no|not\ (?:a|any|one)|n['’]t\ (?:a|any|one))\ (?:[\w-]+,?\ ){0,3}(?:answer|way\ to\ (?:answer|describe))\b
      | answer\ (?:to\ )?(?:this|that|your|the)\ question
      | (?:this|that|it)\ is\ (?:a\ )?(?:\w+\ )?(?:difficult|hard|tricky|tough)\ (?:question|one\ to\ answer)
      | (?:difficult|hard|impossible|tricky)\ to\ (?:say|answer|generali[sz]e|pinpoint
            | (?:give|provide|describe|name|list)\ (?:a|an|any|the|one|specific|all)\b)
      | no\ (?:\w+\ ){0,2}(?:identifying|defining|distinguishing|universal)\ (?:characteristics|features)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_EVASIVE = _these("answer sorry sure unable ai ask asked asking difficult hard impossible tricky tough no i i'm i’m")
_DASHES = frozenset("-*•")
_CHATTER = re.compile(
    r"^(?:q(?:uestion)?\s*\d*\s*:|(?:sure|certainly|of course|okay|great)[,!]|here (?:is|are|['’]s)\b.*:$|"
    r"(?:useful|visual|distinguishing) (?:visual )?features (?:for|of|that)\b|image result for\b"
    r"|user:|assistant:|(?:what|which|how)\b[^.?]*\?)",
    re.IGNORECASE,
)

# A text that ends in one of these goes on. Prepositions may well end a clause ("to sleep in"): those count only where
# no word before them asks for one.
_GOES_ON = _these("and or a an the but its their his her your than very including such while because")
_MAY_GO_ON = _these("with of for from is are has have into between")
_ASKS_FOR_ONE = _these(
    "that which who whom what where how when to used they it you than as the out off made be being in"
)
_OPEN_END = re.compile(r"[,;:(\[{–—/&-][.\s]*$")
_ABBREVIATED = re.compile(r"\b(?:St|Dr|Mr|Mrs|Mt|vs|spp?|e\.g|i\.e|approx)\.$")
_NUMBER_CUT = re.compile(
    r"(?:\b(?:about|around|approximately|roughly|nearly|average|averages|averaging|is|of|to|over|under|least|most|"
    r"between|from|than|only|measures?|measuring|weigh|weighs|weighing|reach|or)|[(:])\s*[$£€-]?\d{1,3}\.$"
)
_COUNTED = re.compile(r"\b(?:19|20)\d\d\.$|\b(?:numbers?|numbered|labell?ed|scale|sizes?|grades?|ages?)\b.*\d\.$")
_ENUMERATED = re.compile(r"(?<![\w(])(?:[a-z]|[ivx]{1,3}|\d{1,2})\)")
_BRACKETS = re.compile(r"[()\[\]{}\"“”]")
_INCHES = re.compile(r"(?<=\d)[\"”]")


def _truncation(text: str) -> str:
    """Why a text seems to have lost an end; "" where it seems whole."""
    end = text[-30:]  # what is looked for at the end is short
    if text.endswith(("...", "…")):
        return "ends in dots"
    marked = not text[-1].isalnum()
    if marked and _OPEN_END.search(end):
        return f"ends in {text.rstrip('. ')[-1]!r}"
    word = end.rsplit(maxsplit=1)[-1].strip("\"'.,;:!?()[]").casefold()
    if word in _GOES_ON or (word in _MAY_GO_ON and _ASKS_FOR_ONE.isdisjoint(text.casefold().split()[:-1])):
        return f"ends in {word!r}" if " " in text else ""
    if marked and _ABBREVIATED.search(end):
        return "ends in an abbreviation"
    if marked and _NUMBER_CUT.search(end) and not _COUNTED.search(text):
        return "ends in a number, cut at the point after it"
    return _unbalanced(text)


def _unbalanced(text: str) -> str:
    if not _BRACKETS.search(text):
        return ""
    plain = _INCHES.sub("", _ENUMERATED.sub("", text))
    for opening, closing in ("()", "[]", "{}", "“”"):
        if plain.count(opening) != plain.count(closing):
            more = opening if plain.count(opening) > plain.count(closing) else closing
            return f"a {more!r} without its partner"
    return "a quotation mark without its partner" if plain.count('"') % 2 else ""


def _several(text: str) -> bool:
    """Whether a text is a list, behind an introduction or not."""
    items = [item.strip() for item in _ITEM.split(text) if any(map(str.isalnum, item))]
    return len(items) > 1 and not (len(items) == 2 and items[0].endswith(":"))


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_VERBS = "do does did is are was were has have had"
_NEGATIONS = _these("no not without never lack lacks lacking neither nor none absence absent") | {
    f"{verb}n{mark}t" for verb in _VERBS.split() for mark in "'’"
}
# Neither of these speaks of a look that is missing.
_NO_NEGATION = re.compile(
    r"\bnot only\b|\bno (?:more|less|fewer|greater|larger|smaller|bigger|taller|longer|shorter) than\b|\bno doubt\b"
    r"|\bnot to mention\b|\bmore often than not\b|\bwhether or not\b|\bno\.\s?\d|\bnot in use\b|\bnot known\b"
    r"|\bnot (?:\w+ly )?(?:evident|apparent)\b|\bwithout (?:\w+ing\b|the (?:need|use|help)\b)",
    re.IGNORECASE,
)
_SENSES = {
    "a smell": "smell smells smelly smelling odor odors odour odours scent scents scented aroma aromas aromatic"
    " fragrance fragrances fragrant",
    "a sound": "sound sounds sounding noise noises noisy loud loudly chirp chirps chirping vocal vocalization"
    " vocalizations vocalisations meow meows melodious audible",
    "a taste": "taste tastes tasty tasting flavor flavors flavored flavorful flavour flavours flavoured delicious",
    "a price": "price prices priced pricey expensive inexpensive affordable costly",
    "a character": "intelligent intelligence loyal loyalty affectionate temperament personality personalities trainable"
    " hypoallergenic",
    "a weight": "weigh weighs weighing",
    "an age": "lifespan lifespans",
    "an origin": "originated originates originating native endemic indigenous",
}
_UNSEEN = {word: sense for sense, words in _SENSES.items() for word in words.split()}
_SEEN_AFTER_ALL = re.compile(
    r"\bsound[- ](?:systems?|equipment|holes?|boards?|booths?|box|boxes|bars?|waves?|mixers?|proof\w*|panels?|stage)\b"
    r"|\bsoundproof\w*|\bprice (?:tags?|lists?|signs?|board)\b|\bweighing (?:scales?|machines?)\b"
    r"|\b(?:intelligent|loyal|affectionate)(?:[- ]looking|,? (?:\w+ )?(?:expression|look|eyes|face|gaze))\b"
    r"|\bnoise[- ]cancel\w+|\bvocal (?:sacs?|pouch\w*)\b|\bnative (?:american|dress|costume)\w*"
    r"|\b(?:flavou?red|scented) (?:syrups?|candles?)\b",
    re.IGNORECASE,
)
_LANDS = (
    "africa|asia|europe|australia|australasia|antarctica|eurasia|oceania|(?:the )?americas?|the united states|the usa?"
    "|canada|mexico|brazil|argentina|chile|peru|china|japan|india|indonesia|new guinea|papua|thailand|tibet|new zealand"
    "|madagascar|ethiopia|egypt|turkey|russia|siberia|germany|france|italy|spain|england|scotland|ireland|wales|britain"
    "|great britain|norway|sweden|hawaii|alaska|california|florida|texas|new england"
    "|the (?:caribbean|mediterranean|arctic|amazon|himalayas?|middle east|old world|new world|pacific|atlantic|wild)"
)
_RANGE = re.compile(
    r"\b(?:found|lives?|living|occurs?|distributed|bred|grown|popular|common)\s(?:\w+\s){0,2}?(?:in|throughout|across)\s"
    r"(?:\w+\sof\s)?(?:(?:the\s)?(?:north|south|east|west|central|southeast|southwest|northeast|northwest)\w*(?:[\s-]and\s"
    rf"\w+)?[\s-])?(?:{_LANDS})\b",
    re.IGNORECASE,
)


class _Judge:
    """What a text shows by itself, each distinct text once."""

    def __init__(self, token_count: Callable[[str], int] | None, context: int) -> None:
        self._count, self._context = token_count, context
        self._known: dict[str, tuple[tuple[str, str], ...]] = {}

    def __call__(self, text: str) -> tuple[tuple[str, str], ...]:
        """(code, message) for each thing that is wrong."""
        if (found := self._known.get(text)) is None:
            found = self._known[text] = tuple(self._found(text))
        return found

    def _found(self, text: str) -> Iterator[tuple[str, str]]:
        core = clean(text)
        if (len(core) < 12 and _SAYS_NOTHING.match(core)) or not any(map(str.isalpha, core)):
            yield "junk", "it says nothing about the class"
            return
        words = set(_WORD.findall(core.casefold()))
        if core != text:
            if core != text.strip():
                yield "markup", f"without it: {core!r}"
            else:
                yield "blanks", "the tokenizer drops them; programs that compare texts do not"
        if not words.isdisjoint(_EVASIVE) and (refusal := _REFUSAL.search(core)):
            after_all = core[refusal.end() :].partition(" but ")[2]
            if not after_all or _REFUSAL.search(after_all):
                yield "refusal", f"{refusal[0]!r}: ask again"
                return
            yield "prompt", "speaks to a reader before it speaks of the class"
            core, words = after_all, set(_WORD.findall(after_all.casefold()))
        elif _CHATTER.match(core) or core.rstrip("\"'”’). ").endswith("?"):
            yield "prompt", "speaks to a reader, and not only of the class"
        elif "://" in core or "www." in core:
            yield "url", "an address shows nothing"
        elif cut := _truncation(core):
            yield "truncated", cut
        if ("\n" in core or not _DASHES.isdisjoint(core)) and _several(core):
            yield "list", "better a text each"
        yield from _words_against(core, words)
        yield from self._length(text)

    def _length(self, text: str) -> Iterator[tuple[str, str]]:
        if self._count is None and len(text) + 2 <= self._context:
            return  # a token has one character at least
        count = estimated_tokens(text) if self._count is None else self._count(text)
        if count > self._context:
            about = "about " if self._count is None else ""
            yield "too-long", f"{about}{count} tokens, and the encoder reads {self._context}"


def _words_against(text: str, words: set[str]) -> Iterator[tuple[str, str]]:
    """Negations, and words for what cannot be seen."""
    denied = sorted(words & _NEGATIONS)
    if denied and (again := _still(_NO_NEGATION, text, denied)):
        yield "negation", f"{again!r}: an encoder hardly reads it, and sees what is named after it"
    unseen = sorted(words & _UNSEEN.keys())
    if unseen and (again := _still(_SEEN_AFTER_ALL, text, unseen)):
        yield "non-visual", f"{again!r}: {_UNSEEN[again]} is not in a picture"
    elif not words.isdisjoint(_RANGE_WORDS) and (where := _RANGE.search(text)):
        yield "non-visual", f"{where[0]!r}: where it comes from is not in a picture"


_RANGE_WORDS = _these("found live lives living occur occurs distributed bred grown popular common")


def _still(harmless: re.Pattern[str], text: str, words: Sequence[str]) -> str:
    """The first of `words` that is there outside of harmless phrases; "" where none is."""
    left = {word.casefold() for word in _WORD.findall(harmless.sub(" ", text))}
    return next((word for word in words if word in left), "")


_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]+")


def estimated_tokens(text: str) -> int:
    """A token for every eight letters begun of a word, for a digit, and for marks in a row; and two, start and end.

    On published descriptions this is 1.2 tokens off CLIP's own count on average.
    """
    return 2 + sum(1 + (len(piece) - 1) // 8 for piece in _PIECE.findall(text))


# Names of classes in texts


_PLURAL_ONLY = _these("shorts tights trunks jeans glasses sunglasses goggles binoculars overalls species series")


@lru_cache(maxsize=1 << 20)
def _stem(word: str) -> str:
    """A word without case, accents and the ending of a plural or genitive."""
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).replace("’", "'")
    word = word.casefold().removesuffix("'s")
    if word in _PLURAL_ONLY:
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _words(text: str) -> tuple[str, ...]:
    return tuple(map(_stem, _WORD.findall(text)))


# One word that is a class somewhere and means a colour, a part or a property in most texts.
_ALSO_ORDINARY = _these(
    "orange rose peach olive lemon gold silver bronze ivory chocolate coffee cream cherry turquoise amber salmon"
    " crane nail boxer drum ring bow bar stage net mask muzzle plate pole screw barrel tank knot lighter fly swing safe"
    " suit dock tray shield spindle dome hook chain wave park"
)


def _spellings(name: str) -> list[tuple[str, ...]]:
    """The ways a text may call a class: the name, without what stands in brackets, and each side of a stroke."""
    whole = normalise(name)
    bare = re.sub(r"\([^()]*\)", " ", whole)
    parts = [whole, bare, *(bare.split(" / ") if " / " in bare else ())]
    return [words for words in dict.fromkeys(map(_words, parts)) if words and len("".join(words)) > 2]


def _within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    size = len(inner)
    return any(outer[at : at + size] == inner for at in range(len(outer) - size + 1))


class _Index:
    """Names by their first word, so that a text is held against all of them at the cost of its own length."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.spellings = {id_: _spellings(name) for id_, name in names.items()}
        self._ids: dict[tuple[str, ...], int] = {}
        lengths: dict[str, set[int]] = defaultdict(set)
        for id_, several in self.spellings.items():
            for words in several:
                self._ids.setdefault(words, id_)
                lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(sizes, reverse=True) for word, sizes in lengths.items()}

    def mentions(self, text: str) -> list[tuple[tuple[str, ...], int]]:
        """(words, id) of the names in a text, the longest one at each place."""
        words = _words(text)
        found: list[tuple[tuple[str, ...], int]] = []
        if self._lengths.keys().isdisjoint(words):
            return found
        at = 0
        while at < len(words):
            step = 1
            for size in self._lengths.get(words[at], ()):
                name = words[at : at + size]
                if name in self._ids:
                    found.append((name, self._ids[name]))
                    step = size
                    break
            at += step
        return found


def _named(descriptions: Descriptions, subjects: Sequence[_Subject]) -> Iterator[Finding]:
    """Texts that name their own class, or another one. Captions of pairs name their class on purpose.

    Sentences do so as well: where half of all texts name their class, that is the style of the file, and said once.
    """
    index = _Index(descriptions.names)
    own, total = [], 0
    for subject in subjects:
        mine = index.spellings.get(subject.ids[0], [])
        for text in dict.fromkeys(subject.texts):
            mentions = index.mentions(text)
            total += len(subject.ids) == 1
            if not mentions:
                continue
            if len(subject.ids) == 1 and any(words in mine for words, _ in mentions):
                own.append(_of(subject, "own-name", text, "a method that adds the name has it twice"))
            rival = next((id_ for words, id_ in mentions if _foreign(words, id_, subject, mine)), None)
            if rival is not None:
                called = descriptions.names[rival]
                found = _of(subject, "rival-name", text, f"names {called}, and so draws the class towards it")
                yield replace(found, ids=(subject.ids[0], rival))
    if own and 2 * len(own) >= total:
        style = f"{len(own)} of {total} texts name their class: sentences, for a method that adds no name"
        yield Finding("own-name", CODES["own-name"].severity, (), "", "", style)
    else:
        yield from own


def _foreign(words: tuple[str, ...], id_: int, subject: _Subject, mine: Sequence[tuple[str, ...]]) -> bool:
    """Whether a mention is of another class, and not of what the own name says too: a wheaten terrier is a terrier."""
    if id_ in subject.ids[:1] or (len(subject.ids) == 2 and id_ != subject.ids[1]):
        return False
    if len(words) == 1 and words[0] in _ALSO_ORDINARY:
        return False
    return not any(_within(words, name) for name in mine)


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
        _these(
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
        _these(
            "fur furry furred feathers feathered plumage beak bill paws snout muzzle whiskers mane hooves legs tail"
            f" wings fins scales petals leaves stem animal mammal bird fish insect dog cat breed reptile {_FOOD}"
        ),
    ),
)
_RUN = 4  # lines in a row that two answers do not share by chance
_ARTICLE = re.compile(r"^(?:an?|the) ")


def _leaked(descriptions: Descriptions, folds: _Folds) -> Iterator[Finding]:
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
        subject = _Subject((id_,), descriptions.names.get(id_, ""), texts)
        for text, line in dict(zip(texts, lines[id_], strict=True)).items():
            if message := why.get((id_, line)):
                yield _of(subject, "leaked", text, message)


def _copied(name: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(line, source) of a known example's lines: three together, or a single one where it cannot be true."""
    for example in _EXAMPLES:
        there = [line for line in lines if line in example.lines]
        telling = [line for line in there if line not in example.common]
        if not telling:
            continue
        others = [name.casefold(), *(line for line in lines if line not in example.lines)]
        if example.home & set(_WORD.findall(name.casefold())):
            continue  # the class that the example is about
        impossible = not example.elsewhere.isdisjoint(_WORD.findall(" ".join(others)))
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
        its_own = {line for word in _words(names.get(id_, "")) for line in homes.get(word, ())}
        for at in range(len(texts) - _RUN + 1):
            run = tuple(texts[at : at + _RUN])
            if all(line in shared for line in run) and len(set(run)) == _RUN and its_own.isdisjoint(run):
                runs[run].append(id_)
    for run, ids in runs.items():
        ids = list(dict.fromkeys(ids))
        copied = any((id_, line) in known for id_ in ids for line in run)
        if len(ids) >= (2 if copied else 3):
            kinds = [set(_words(names.get(id_, ""))) for id_ in ids]
            if not set.intersection(*kinds):
                yield ids, run


_SMALL = _these("a an the of or and with in on for to is are be may that which it its from by at as can has have used")


def _strangers(
    names: Mapping[int, str], lines: Mapping[int, Sequence[str]], shared: Mapping[str, Sequence[int]]
) -> Iterator[str]:
    """Lines of three telling words or more, in four classes or more that share no rare word besides, where two of the
    words hardly occur in any other line: "black wings with white spots" is made of words that are everywhere."""
    often = [line for line, ids in shared.items() if len(ids) >= 4]
    if not often:
        return
    content = {line: set(_words(line)) - _SMALL for line in often}
    often = [line for line in often if len(content[line]) >= 3]
    if not often:
        return
    words = {id_: set(_words(" ".join([names.get(id_, ""), *texts]))) - _SMALL for id_, texts in lines.items()}
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
