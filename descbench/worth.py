"""What each description is worth over a data set: the images that become right, and wrong, without it.

To leave one text out changes only the scores of its class, from the similarity with one vector to that with another.
So all texts at once are one product of images with such vectors, in blocks, held against the best two classes of each
image. What comes near to changing an answer, which is little, is then computed anew in float64.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descbench.classifier import Classifier
from descbench.edits import edited
from descbench.embedding import Embedded, embed
from descbench.errors import InputError
from descbench.evaluation import check_unseen, labelled
from descbench.methods.base import Method
from descbench.methods.cascade import stages_of
from descbench.progress import report
from descbench.scoring import BLOCK, unit_views, whole
from descbench.texts import TextBank, of_every_name

if TYPE_CHECKING:
    import torch

    from descbench.datasets.base import Dataset

TIE = 1e-9
"""Scores in float64 that are nearer than this are equal, and the class that comes first wins, as in a prediction."""

ROUNDING = 1e-4
"""More than a product in float32 of vectors of at most length 1 is off: what is nearer is computed anew."""

CACHED = 1 << 20
"""How many floats a block of similarities has on a CPU, 4 MB: three passes go over it while it is in a cache."""

WIDTH = 100  # columns of a table as text


@dataclass(frozen=True)
class Use:
    """A description, the `number`-th of its class from 1 on, and what it does over a data set.

    `own` and `others` are its mean similarities to the images of its class and to all others, NaN where there are none.
    Without it `gained` images would become right and `lost` wrong. `carried` of the lost ones are among the `right`
    images that are rightly answered with its class; the others go to its class, which scores higher without it.
    """

    id: int
    name: str
    number: int
    description: str
    text: str  # as it is encoded
    own: float
    others: float
    gained: int
    lost: int
    edited: bool  # by a person, as far as the file remembers
    right: int = 0
    carried: int = 0

    @property
    def worth(self) -> int:
        """How many more images are right with it than without."""
        return self.lost - self.gained

    @property
    def decides(self) -> bool:
        """Whether half or more of what its class gets right is lost without it."""
        return 2 * self.carried >= self.right > 0


@dataclass(frozen=True)
class Usefulness:
    """The uses of all descriptions of a classifier over labelled images, of which it has `right`."""

    method: str
    dataset: str
    images: int
    right: int
    uses: tuple[Use, ...]  # by class and number

    @property
    def ranked(self) -> tuple[Use, ...]:
        """The most worth first; of as much worth, those that move more images are nearer to the ends."""
        return tuple(
            sorted(
                self.uses, key=lambda u: (-u.worth, (u.gained + u.lost) * (1 if u.worth < 0 else -1), u.id, u.number)
            )
        )

    @property
    def idle(self) -> tuple[Use, ...]:
        """Those without which every answer is as right or wrong as it is with them."""
        return tuple(use for use in self.uses if not use.lost and not use.gained)

    @property
    def hurting(self) -> tuple[Use, ...]:
        """Those that keep no image right and cost some."""
        return tuple(use for use in self.uses if use.gained and not use.lost)

    @property
    def deciding(self) -> tuple[Use, ...]:
        """Those that decide their class: without it half or more of what the class gets right is lost; the largest
        share first, and of equal ones the most images."""
        return tuple(
            sorted(
                (use for use in self.uses if use.decides),
                key=lambda u: (-u.carried / u.right, -u.carried, u.id, u.number),
            )
        )

    def __str__(self) -> str:
        return self.table()

    def table(self, most: int = 10) -> str:
        """The best, the worst and the deciding ones as text, `most` of each; 0 shows all, best first."""
        moving = [use for use in self.ranked if use.lost or use.gained]
        head = (
            f"{self.method} on {self.dataset}: {self.right} of {self.images} images right; of {len(self.uses)} "
            f"descriptions, {len(self.idle)} move no image when left out"
        )
        if hurting := len(self.hurting):
            head += f"\n{hurting} only {'hurts: without it' if hurting == 1 else 'hurt: without them'} nothing is lost"
        if not moving:
            return head if most or not self.uses else f"{head}\n{_table(self.ranked)}"
        parts = [head]
        if not most or len(moving) <= 2 * most:
            parts.append(_table(moving if most else self.ranked))
        else:
            best = [use for use in moving if use.worth > 0][:most]
            worst = [use for use in moving if use.worth < 0][-most:]
            if best:
                parts += ["best: without it images are lost", _table(best)]
            if worst:
                parts += ["worst: without it images are gained", _table(worst[::-1])]
        if deciding := self.deciding:
            parts += ["deciding: without it a class loses half or more of what it gets right"]
            parts += [_shares(deciding[: most or None])]
            if most and len(deciding) > most:
                parts += [f"{len(deciding) - most} more decide their class"]
        return "\n".join(parts)


def _table(uses: Sequence[Use]) -> str:
    """What each is worth, as text."""
    return _lines(
        uses,
        f"{'worth':>5} {'lost':>5} {'gained':>6}  {'own':>6} {'others':>6}",
        [f"{u.worth:>+5} {u.lost:>5} {u.gained:>6}  {_mean(u.own)} {_mean(u.others)}" for u in uses],
    )


def _shares(uses: Sequence[Use]) -> str:
    """How much of its class each decides, as text."""
    return _lines(uses, f"{'lost':>5} of right", [f"{u.carried:>5} of {u.right:<5}" for u in uses])


def _lines(uses: Sequence[Use], title: str, figures: Sequence[str]) -> str:
    """Uses as text under a title of their figures, a line each or more, where a description is long."""
    name = min(24, max(len("class"), *(len(use.name) for use in uses)))
    lines = [f"{title}  {'class':<{name}} {'':>4} description"]
    for use, figure in zip(uses, figures, strict=True):
        called = use.name if len(use.name) <= name else f"{use.name[: name - 3]}..."
        head = f"{figure}  {called:<{name}} {use.number:>3}. "
        said = textwrap.wrap(use.description + (" (edited)" if use.edited else ""), WIDTH - len(head)) or [""]
        lines += [head + said[0], *(" " * len(head) + more for more in said[1:])]
    return "\n".join(lines)


def _mean(value: float) -> str:
    return f"{'-':>6}" if math.isnan(value) else f"{value:6.3f}"


def usefulness(
    classifier: Classifier, data: Dataset | Embedded, *, labels: str | Path | Mapping[str, str] | None = None
) -> Usefulness:
    """What each description of the classes is worth over a labelled data set; `labels` are as in `evaluate`.

    Each is left out by itself, and all others stay; a class that loses its only one is scored as its method scores one
    without any. Raises `InputError` for a follow-up, for a method whose texts are not its descriptions one by one, and
    for one whose pool is no mean.
    """
    stage = _checked(classifier)
    images = data if isinstance(data, Embedded) else embed(data, classifier.encoder)
    split = labelled(images, classifier.vocabulary, labels=labels)
    check_unseen(images, classifier.support, classifier.tuning.split if classifier.tuning else None)
    classifier.predict_features(split.features[:1])  # raises what cannot be scored
    bank, features, index = classifier.bank()
    device = "cpu" if features.device.type == "mps" else str(features.device)  # float64, which Apple's GPUs lack
    left_out = _LeftOut.of(classifier, stage, bank)
    vectors = _Vectors(bank, features[index].to(device), left_out, classifier, stage.pool == "mean_feature")
    x = whole(unit_views(split.features, device, "image features"))
    positions = classifier.vocabulary.positions
    accepted = split.labels[:, None] if split.accepted is None else split.accepted
    counted = _counted(x, positions(accepted), vectors, left_out)
    own, others = _similar(x, positions(split.labels), vectors.texts[left_out.rows], left_out.classes)
    by_hand = edited(classifier.descriptions)
    uses = []
    for n, (row, position) in enumerate(zip(left_out.rows.tolist(), left_out.classes.tolist(), strict=True)):
        id_, name = int(classifier.vocabulary.ids[position]), classifier.vocabulary.names[position]
        said, number = left_out.descriptions[n]
        told = (id_, name, number, said, bank.texts[row], float(own[n]), float(others[n]))
        mine = said in by_hand.get((id_,), ())
        gained, lost, carried = counted.changes[:, n].tolist()
        uses.append(Use(*told, gained, lost, mine, int(counted.right[position]), carried))
    return Usefulness(repr(classifier.method), split.name, len(split), int(counted.right.sum()), tuple(uses))


def _checked(classifier: Classifier) -> Method:
    """The one stage of a method that can be taken apart by its descriptions."""
    stage, *more = stages_of(classifier.method)
    method = repr(classifier.method)
    if more:
        raise InputError(f"{method} decides by a follow-up; ask what descriptions are worth of one stage, as {stage!r}")
    if stage.asks_about != "class":
        raise InputError(f"{method} has no descriptions of single classes to leave out; dclip and cupl have")
    if stage.needs_support:
        raise InputError(f"{method} chooses its texts by labelled images; ask what descriptions are worth of dclip")
    if stage.pool not in ("mean_score", "mean_feature"):
        raise InputError(
            f"{method} pools its texts by {stage.pool}, in which they do not count one by one; take one that takes a "
            "mean: dclip, cupl, or pool='mean_score'"
        )
    return stage


@dataclass(frozen=True)
class _LeftOut:
    """The R texts that can be left out, by class: their rows in the bank (R,), the positions of their classes (R,),
    what each says and its number; and for a class that has no other text, what stands for it then."""

    rows: np.ndarray
    classes: np.ndarray
    descriptions: list[tuple[str, int]]
    instead: dict[int, tuple[str, ...]]

    @classmethod
    def of(cls, classifier: Classifier, stage: Method, bank: TextBank) -> _LeftOut:
        """Raises `InputError` where to leave a description out is not to leave out one text."""
        vocabulary, known, all_ = classifier.vocabulary, classifier.descriptions, slice(None)
        said = {id_: [text for text in texts if text.strip()] for id_, texts in known.classes.items()}
        marks = {id_: [_mark(id_, n) for n in range(len(texts))] for id_, texts in said.items()}
        full, first, last, marked = (
            of_every_name(stage, vocabulary, replace(known, classes={id_: texts[cut] for id_, texts in lists.items()}))
            for lists, cut in ((said, all_), (said, slice(1, None)), (said, slice(None, -1)), (marks, all_))
        )
        rows: list[int] = []
        classes: list[int] = []
        descriptions: list[tuple[str, int]] = []
        instead: dict[int, tuple[str, ...]] = {}
        for position, id_ in enumerate(vocabulary.ids.tolist()):
            texts, n = _weighted(full, position), len(said.get(id_, ()))
            before = len(texts) - n  # others, as templates
            if not n:
                fits = texts == _weighted(first, position) == _weighted(last, position)
            elif len(texts) == 1:
                fits, instead[position] = before == 0, last.texts_of(position)
            else:
                without = ([*texts[:before], *texts[before + 1 :]], texts[:-1])
                fits = before >= 0 and without == (_weighted(first, position), _weighted(last, position))
            there = marked.texts_of(position)[max(0, before) :]
            fits &= len(there) == n or not n
            fits &= all(_mark(id_, m) in text for m, text in enumerate(there[:n]))
            if not fits or full.anchors != last.anchors:
                raise InputError(
                    f"in {stage!r} a description is not one text of its class, so none can be left out by itself "
                    f"(seen at {vocabulary.names[position]!r}); ask dclip, cupl, wca(dclip) or nameless(dclip)"
                    + (", of classes without synonyms" if id_ in vocabulary.synonyms else "")
                )
            start = int(bank.offsets[position])
            rows += range(start + before, start + before + n)
            classes += [position] * n
            descriptions += [(text, number) for number, text in enumerate(said.get(id_, ()), 1)]
        return cls(np.array(rows, dtype=np.int64), np.array(classes, dtype=np.int64), descriptions, instead)


def _mark(id: int, number: int) -> str:
    """A description that is like no other, to see where it goes."""
    return f"mark {number} of class {id}"


def _weighted(bank: TextBank, position: int) -> list[tuple[str, float]]:
    """The texts of a class with their weights."""
    own = slice(*bank.offsets[position : position + 2].tolist())
    weights = [1.0] * (own.stop - own.start) if bank.weights is None else bank.weights[own].tolist()
    return list(zip(bank.texts[own], weights, strict=True))


class _Vectors:
    """The vectors that classes are scored by, in float64: with all texts, and with one left out."""

    def __init__(
        self, bank: TextBank, texts: torch.Tensor, left_out: _LeftOut, classifier: Classifier, renormalise: bool
    ) -> None:
        import torch

        self.texts, self._left_out, self._renormalise = texts, left_out, renormalise  # (T, D)
        counts = torch.as_tensor(np.diff(bank.offsets), device=texts.device)
        owner = torch.arange(len(counts), device=texts.device).repeat_interleave(counts)
        weights = np.ones(len(bank)) if bank.weights is None else bank.weights
        self._weights = torch.as_tensor(weights, dtype=torch.float64, device=texts.device)  # (T,)
        self._whole = self._weights.new_zeros(len(counts)).index_add_(0, owner, self._weights)  # (C,)
        self._sums = self._weights.new_zeros(len(counts), texts.shape[1])  # (C, D)
        for start in range(0, len(texts), step := max(1, BLOCK // texts.shape[1])):
            part = slice(start, start + step)
            self._sums.index_add_(0, owner[part], texts[part].double() * self._weights[part, None])
        self.classes = self._scaled(self._sums, self._whole)  # (C, D)
        told = left_out.instead
        rows = classifier.text_features([text for some in told.values() for text in some]) if told else texts[:0]
        parts = torch.split(rows.to(texts.device).double(), [len(some) for some in told.values()])
        self._instead = {
            position: self._scaled(part.sum(dim=0), self._weights.new_tensor(float(len(part))))
            for position, part in zip(told, parts, strict=True)
        }

    def without(self, part: slice) -> torch.Tensor:
        """The vectors of the classes of some of the texts that can be left out, each without its text, (r, D)."""
        import torch

        device = self.texts.device
        rows = torch.as_tensor(self._left_out.rows[part], device=device)
        classes = torch.as_tensor(self._left_out.classes[part], device=device)
        weights = self._weights[rows]
        sums = self._sums[classes] - weights[:, None] * self.texts[rows].double()
        found = self._scaled(sums, self._whole[classes] - weights)
        alone = np.flatnonzero(np.isin(self._left_out.classes[part], list(self._instead)))
        for n in alone.tolist():
            found[n] = self._instead[int(self._left_out.classes[part][n])]
        return found

    def _scaled(self, sums: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        import torch

        lengths = torch.linalg.vector_norm(sums, dim=-1) if self._renormalise else weights
        return sums / lengths.clamp_min(1e-12)[..., None]


@dataclass(frozen=True, eq=False)
class _Counts:
    """How many images become right without each text, how many wrong, and how many of these were answered with its
    class, (3, R); and how many are rightly answered with each class, (C,)."""

    changes: np.ndarray
    right: np.ndarray


def _counted(x: torch.Tensor, accepted: np.ndarray, vectors: _Vectors, left_out: _LeftOut) -> _Counts:
    """What leaving each text out changes in the answers for the images x (N, D).

    `accepted` (N, L) are the positions of the classes that are right for an image.
    """
    import torch

    right = torch.as_tensor(accepted, device=x.device)
    best, values = _best_two(x, vectors.classes)  # (N, 2) both
    hits = (best[:, :, None] == right[:, None, :]).any(dim=2)  # (N, 2)
    R, C = len(left_out.rows), len(vectors.classes)
    starts = torch.as_tensor(np.searchsorted(left_out.classes, np.arange(C + 1)), device=x.device)
    classes = torch.as_tensor(left_out.classes, device=x.device)
    changes = torch.zeros(3, R, dtype=torch.int64, device=x.device)
    size = CACHED if x.device.type == "cpu" else BLOCK
    width = max(1, min(R, math.isqrt(size)))
    step = max(1, size // width)

    def count(image: torch.Tensor, text: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Adds up what is gained and lost; returns the texts of the lost images."""
        before = hits[image, 0]
        gone = before & ~after
        changes[0] += torch.bincount(text[~before & after], minlength=R)
        changes[1] += torch.bincount(text[gone], minlength=R)
        return text[gone]

    for first in range(0, R, width):
        block = slice(first, min(first + width, R))
        without = vectors.without(block)  # (r, D)
        narrow = without.float().T.contiguous()
        for start in range(0, len(x), step):
            images = slice(start, min(start + step, len(x)))
            top, score = best[images], values[images]
            # The class that answers loses a text: does it still beat the second?
            begin = starts[top[:, 0]].clamp(block.start, block.stop)
            many = starts[top[:, 0] + 1].clamp(block.start, block.stop) - begin
            image = torch.arange(len(top), device=x.device).repeat_interleave(many)
            text = torch.arange(len(image), device=x.device) - (many.cumsum(0) - many - begin).repeat_interleave(many)
            stays = _beats(x[images], without, image, text - first, classes[text], score[:, 1], top[:, 1])
            gone = count(image + start, text, torch.where(stays, hits[image + start, 0], hits[image + start, 1]))
            changes[2] += torch.bincount(gone, minlength=R)
            # Another class loses one: does it now beat the first?
            ahead = (x[images] @ narrow).sub_(score[:, :1].float())
            ahead[image, text - first] = -torch.inf
            image, text = (ahead > -ROUNDING).nonzero(as_tuple=True)
            wins = _beats(x[images], without, image, text, classes[text + first], score[:, 0], top[:, 0])
            image, text = image[wins] + start, text[wins] + first
            count(image, text, (right[image] == classes[text, None]).any(dim=1))
            report("leaving texts out", first * len(x) + (block.stop - first) * images.stop, R * len(x))
    of = torch.bincount(best[hits[:, 0], 0], minlength=C)  # (C,)
    return _Counts(changes.cpu().numpy(), of.cpu().numpy())


def _best_two(x: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions of the best two classes of each image, and their scores, (N, 2) both; ties by position. Of one
    class alone the second is no class, and its score minus infinity."""
    import torch

    C = len(classes)
    best = torch.full((len(x), 2), C, device=x.device)
    values = torch.full((len(x), 2), -torch.inf, dtype=torch.float64, device=x.device)
    step = max(1, (BLOCK >> 1) // C)
    for start in range(0, len(x), step):
        scores = x[start : start + step].double() @ classes.T
        for column in range(min(2, C)):
            top = scores.amax(dim=1)
            found = (scores >= top[:, None] - TIE).to(torch.uint8).argmax(dim=1, keepdim=True)  # the first of them
            best[start : start + step, column] = found[:, 0]
            values[start : start + step, column] = scores.gather(1, found)[:, 0]
            scores.scatter_(1, found, -torch.inf)
    return best, values


def _beats(
    x: torch.Tensor,
    vectors: torch.Tensor,
    image: torch.Tensor,
    text: torch.Tensor,
    classes: torch.Tensor,
    score: torch.Tensor,
    rival: torch.Tensor,
) -> torch.Tensor:
    """Whether class `classes[p]`, by its vector `text[p]`, scores higher for `image[p]` than that one's `rival`, whose
    score is `score`; or as high and comes first: (P,) bool, in float64."""
    import torch

    won = torch.zeros(len(image), dtype=torch.bool, device=x.device)
    for start in range(0, len(image), step := max(1, (BLOCK >> 2) // x.shape[1])):
        part = slice(start, start + step)
        i = image[part]
        ahead = torch.einsum("pd,pd->p", x[i].double(), vectors[text[part]]) - score[i]
        won[part] = (ahead > TIE) | ((ahead >= -TIE) & (classes[part] < rival[i]))
    return won


def _similar(
    x: torch.Tensor, labels: np.ndarray, texts: torch.Tensor, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean similarity of texts (R, D) to the images of their own class and to all others, (R,) both: the similarity
    to the mean is the mean of similarities."""
    import torch

    label = torch.as_tensor(labels, device=x.device)
    own = torch.as_tensor(classes, device=x.device)
    C = int(max(label.max(), own.max() if len(own) else 0)) + 1
    sums = torch.zeros(C, x.shape[1], dtype=torch.float64, device=x.device)
    for start in range(0, len(x), step := max(1, BLOCK // x.shape[1])):
        sums.index_add_(0, label[start : start + step], x[start : start + step].double())
    counts = torch.bincount(label, minlength=C).double()
    found = np.empty((2, len(texts)))
    total = sums.sum(dim=0)
    for start in range(0, len(texts), step := max(1, (BLOCK >> 2) // x.shape[1])):
        part = slice(start, start + step)
        rows, mine = texts[part].double(), own[part]
        inside = torch.einsum("rd,rd->r", rows, sums[mine])
        found[0, part] = (inside / counts[mine]).cpu()
        found[1, part] = ((rows @ total - inside) / (len(x) - counts[mine])).cpu()
    return found[0], found[1]
