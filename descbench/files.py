"""Files of texts: read whole and in UTF-8, written whole or not at all; and checks of what JSON holds."""

from __future__ import annotations

import codecs
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from descbench.errors import InputError


def is_id(value: Any) -> bool:
    """Whether a vocabulary could hold it: a whole number of at most 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def encodable(text: str, where: str) -> str:
    """The text; raises `InputError` where no file can hold it, since half of a character (a surrogate) is left."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: half of a character at {error.start} of {text!r:.80}; write it again") from None
    return text


def is_encodable(data: Any) -> bool:
    """Whether a file can hold all texts of what JSON said: "\\ud83d" is half of a character, and no text."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_name(name: Any, where: str) -> str:
    """A name that a vocabulary can have; raises `InputError` that says where it is not one."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: a class without a name (given: {name!r:.80}); every class needs a name in words")
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise InputError(f"{where}: the class name {name!r:.80} has control characters; remove them")
    return encodable(name, where)


def checked_texts(texts: Any, where: str) -> list[str]:
    """A list of non-blank texts, as given; raises `InputError` that says where it is not one."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: expected a list of texts in double quotes, given: {texts!r:.80}")
    return [encodable(text, where) for text in texts if text.strip()]


class Repeated(dict[str, Any]):
    """A JSON object in which a key occurs twice. `members` has them all; as a dictionary it has the last of each."""

    def __init__(self, members: Sequence[tuple[str, Any]]) -> None:
        super().__init__(members)
        self.members = tuple(members)

    @property
    def key(self) -> str:
        """The first key that occurs twice."""
        return next(key for key, count in Counter(key for key, _ in self.members).items() if count > 1)


def read_text(path: Path) -> str:
    """A text file, without its byte order mark; raises `InputError` where there is none, or it is no UTF-8 text."""
    if not path.is_file():
        raise InputError(f"no file {path}; give a file of descriptions")
    with path.open("rb") as file:
        content = file.read(4096)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path} is not UTF-8 text: it begins as UTF-16 does. Save it as UTF-8")
        if b"\0" in content:
            raise InputError(f"{path} is not UTF-8 text but binary: it has a zero byte at {content.index(0)}")
        content += file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8") from None


def parse_json(text: str, where: str) -> Any:
    """What JSON says. A key that occurs twice in the outermost object makes it `Repeated`.

    Raises `InputError` where it is no JSON, or where a key occurs twice deeper inside: one of the two would be lost.
    """
    twice: list[Repeated] = []

    def members(found: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(found)
        if len(plain) == len(found):
            return plain
        twice.append(Repeated(found))
        return twice[-1]

    try:
        data = json.loads(text, object_pairs_hook=members)
    except RecursionError:
        raise InputError(f"{where} is not valid JSON of descriptions: it is nested too deeply") from None
    except ValueError as error:  # also a number of thousands of digits
        raise InputError(f"{where} is not valid JSON: {error}. Was it edited? A comma may be missing.") from None
    for inner in twice:
        if inner is not data:
            once(inner, where)
    return data


def once(data: Any, where: object) -> Any:
    """The same; raises `InputError` for an object in which a key occurs twice."""
    if isinstance(data, Repeated):
        raise InputError(f"{where}: the key {data.key!r:.80} occurs twice in one object; rename or merge the two")
    return data


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `InputError` where there is no such file, it is broken, or a key occurs twice."""
    return once(parse_json(read_text(path), str(path)), path)


@contextmanager
def locked(folder: Path) -> Iterator[bool | None]:
    """Whether this process alone has the lock of a folder for the time of a block, which ends with the process; None
    where the system locks no folders (Windows, some network disks)."""
    alone: bool | None = None
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                alone = False
        yield alone


def write_whole(path: str | Path, text: str) -> None:
    """Write a file whole or not at all; line breaks stay as they are."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
