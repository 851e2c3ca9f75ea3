"""A few pictures of a run with their answers and reasons, kept beside it: what a report shows of single images."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from descbench.datasets.images import content_id, load_image
from descbench.errors import InputError
from descbench.files import read_json, write_whole
from descbench.progress import report

if TYPE_CHECKING:
    from PIL import Image

    from descbench.classifier import Classifier
    from descbench.embedding import Embedded
    from descbench.evaluation import Evaluation

SCHEMA = 1
MOST = 60  # images
SIDE = 128  # of a thumbnail, in pixels
PAIRS = 5  # of classes that are confused most
REASONS = 12  # of an image
FILE, FOLDER = "gallery.json", "gallery"


@dataclass(frozen=True)
class Told:
    """A text, whose it is ("answer", "rival" or "both"), and how it speaks: above 0 for the answer, below for the
    rival."""

    text: str
    of: str
    contribution: float
    similarity: float


@dataclass(frozen=True)
class Shown:
    """One image: what it is, what was answered, what the first stage had answered ("" of one stage), and why.

    `kind` is "right" or "wrong". `rival` is the class that `reasons` hold the answer against: the label where the
    answer is wrong, what the first stage said where a follow-up mended it, else the runner-up. `picture` is a file
    below `gallery/`, "" where there is none.
    """

    id: str
    source: str
    label: str
    answer: str
    kind: str
    first: str = ""
    stage: str = ""
    rival: str = ""
    lead: float = 0.0
    scores: tuple[tuple[str, float], ...] = ()
    reasons: tuple[Told, ...] = ()
    picture: str = ""

    @property
    def changed(self) -> bool:
        """Whether a follow-up answered otherwise than the first stage."""
        return bool(self.first) and self.first != self.answer


def choose(result: Evaluation, most: int = MOST, seed: int = 0) -> np.ndarray:
    """Which images to show, (at most `most`,) rows: a quarter each of those that a follow-up changed, those of the
    pairs of classes that are confused most, others that are wrong, and those that are right.

    Which of them follows from their ids and the seed alone, so that runs over the same images show the same.
    """
    drawn = np.array([crc32(f"{seed} {id_}".encode("utf-8", "surrogatepass")) for id_ in result.ids], dtype=np.int64)
    order = np.argsort(drawn, kind="stable")
    answers, hits = result.predictions.ids[:, 0], result.hits
    first = answers if result.predictions.first is None else result.predictions.first
    changed = first != answers
    kinds = [order[changed[order]], _confused(result, order, most // 4), order[~hits[order]], order[hits[order]]]
    share = max(most // len(kinds), 1)
    taken: dict[int, None] = {}
    for rows in kinds:
        new = [row for row in rows.tolist() if row not in taken]
        taken.update(dict.fromkeys(new[:share]))
    for rows in (kinds[2], kinds[3]):  # what is left over
        taken.update(dict.fromkeys(rows.tolist()[: max(most, 0)]))
    return np.array(list(taken)[:most], dtype=np.int64)


def _confused(result: Evaluation, order: np.ndarray, most: int) -> np.ndarray:
    """Of the pairs (label, answer) that occur most among the wrong, some images each, in the order given."""
    wrong = order[~result.hits[order]]
    pairs = np.stack([result.labels[wrong], result.predictions.ids[wrong, 0]], axis=1)  # (W, 2)
    if not len(pairs):
        return np.zeros(0, dtype=np.int64)
    kinds, of, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    worst = np.lexsort((kinds[:, 1], kinds[:, 0], -counts))[:PAIRS]
    each = max(most // len(worst), 1)
    rows: np.ndarray = np.concatenate([wrong[of.ravel() == pair][:each] for pair in worst])
    return rows


class Thumbnails:
    """Small pictures of a data set, as JPEG, each made once."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded
        self._made: dict[str, bytes | None] = {}  # by id; None where there is no picture

    def of(self, rows: Sequence[int]) -> dict[str, bytes]:
        """Those of some rows by the ids of their images; a picture that cannot be read any more has none."""
        dataset = self._embedded.dataset
        if getattr(dataset, "features", None) is not None:  # features are all there is
            return {}
        ids = {self._embedded.ids[row]: self._embedded.sources[row] for row in rows}
        wanted = {id_: source for id_, source in ids.items() if id_ not in self._made}
        for id_, source in tuple(wanted.items()):
            if (image := _of_file(id_, source)) is not None:
                self._made[id_] = thumbnail(image)
                del wanted[id_]
        if wanted:  # pictures in tables, archives or memory: one pass, until all are there
            for sample in dataset.samples():
                if sample.id in wanted:
                    with suppress(InputError):
                        self._made[sample.id] = thumbnail(sample.load())
                    del wanted[sample.id]
                    if not wanted:
                        break
        self._made.update(dict.fromkeys(set(ids) - self._made.keys()))
        return {id_: made for id_ in ids if (made := self._made[id_]) is not None}


def _of_file(id_: str, source: str) -> Image.Image | None:
    """The picture of a sample whose source is the path of its file, if that is still the same file."""
    with suppress(InputError, OSError, ValueError):
        path = Path(source).expanduser()
        if path.is_file() and id_.endswith(content_id(path)):
            return load_image(path)
    return None


def thumbnail(image: Image.Image) -> bytes:
    """A JPEG of at most `SIDE` pixels each way."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=82)
    return content.getvalue()


def keep(
    folder: Path, classifier: Classifier, embedded: Embedded, result: Evaluation, thumbnails: Thumbnails | None = None
) -> tuple[Shown, ...]:
    """Choose images of a run, and write `gallery.json` and `gallery/` into its folder.

    `embedded` is what the run was over: reasons come from its features, without a forward pass. `thumbnails` may serve
    several runs over the same images.
    """
    labelled = np.flatnonzero(embedded.labels >= 0)  # rows of `embedded`, as the run has them
    rows = choose(result)
    pictures = (thumbnails or Thumbnails(embedded)).of(labelled[rows].tolist())
    below = folder / FOLDER
    below.mkdir(parents=True, exist_ok=True)
    for old in below.glob("*.jpg"):
        old.unlink()
    shown = []
    for number, row in enumerate(rows.tolist()):
        picture = ""
        if (content := pictures.get(result.ids[row])) is not None:
            picture = f"{number:02d}.jpg"
            (below / picture).write_bytes(content)
        at = int(labelled[row])
        shown.append(_shown(classifier, embedded.features[at], embedded.sources[at], result, row, picture))
        report("explaining answers", number + 1, len(rows))
    if not any(below.iterdir()):
        below.rmdir()
    data = {"schema": SCHEMA, "of": fingerprint(result), "images": [asdict(one) for one in shown]}
    write_whole(folder / FILE, json.dumps(data, indent=1) + "\n")  # in ASCII, since a path may hold any byte
    return tuple(shown)


def _shown(
    classifier: Classifier, features: np.ndarray, source: str, result: Evaluation, row: int, picture: str
) -> Shown:
    vocabulary, predictions = result.predictions.vocabulary, result.predictions
    answer, right = int(predictions.ids[row, 0]), bool(result.hits[row])
    first = None if predictions.first is None else int(predictions.first[row])
    found = Shown(
        result.ids[row],
        source,
        vocabulary.name(int(result.labels[row])),
        vocabulary.name(answer),
        "right" if right else "wrong",
        "" if first is None else vocabulary.name(first),
        scores=tuple(
            (vocabulary.name(id_), round(score, 6))
            for id_, score in zip(predictions.ids[row, :5].tolist(), predictions.scores[row, :5].tolist(), strict=True)
        ),
        picture=picture,
    )
    if len(vocabulary) < 2:  # nothing to hold the answer against
        return found
    against = int(result.labels[row]) if not right else first if first is not None and first != answer else None
    why = classifier.explain_features(features, against)
    strongest = sorted(why.contributions, key=lambda one: -abs(one.contribution))[:REASONS]
    told = sorted(strongest, key=lambda one: -one.contribution)
    reasons = tuple(Told(one.text, one.of, round(one.contribution, 6), round(one.similarity, 6)) for one in told)
    return replace(found, stage=why.stage, rival=why.against, lead=round(why.lead, 6), reasons=reasons)


def fingerprint(result: Evaluation) -> str:
    """Equal for runs with equal answers to the same images: what lies beside a run names the run that it is of."""
    content = sha256(json.dumps(result.ids).encode())
    content.update(result.predictions.ids[:, 0].astype("<i8").tobytes())
    return content.hexdigest()[:32]


def read_beside(path: Path, result: Evaluation) -> dict[str, Any] | None:
    """A JSON file beside a run; None where there is none, and where it is that of an earlier run in the same folder.

    Raises `InputError` where it is broken, or of a newer version.
    """
    if not path.is_file():
        return None
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise InputError(f"{path} is no file of descbench; remove it, or evaluate again with -o")
    if data["schema"] > SCHEMA:
        raise InputError(f"{path} was written by a newer descbench (schema {data['schema']}); update descbench")
    return data if data.get("of") == fingerprint(result) else None


def load(folder: Path, result: Evaluation) -> tuple[Shown, ...]:
    """What `keep` wrote beside a run; nothing where there is none. Errors are those of `read_beside`."""
    path = folder / FILE
    if (data := read_beside(path, result)) is None:
        return ()
    try:
        return tuple(_read(entry) for entry in data["images"])
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, or evaluate again with -o") from None


def _read(entry: dict[str, Any]) -> Shown:
    told = tuple(Told(**reason) for reason in entry["reasons"])
    scores = tuple((str(name), float(score)) for name, score in entry["scores"])
    return Shown(**{**entry, "reasons": told, "scores": scores})


def picture(folder: Path, shown: Shown) -> bytes | None:
    """The thumbnail of an image; None where it has none, or its file is not in the gallery."""
    path = folder / FOLDER / Path(shown.picture).name
    return path.read_bytes() if shown.picture and path.is_file() else None
