"""Choosing texts by labelled images: for each set of candidates the descriptors that tell its classes apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.errors import InputError, listed
from descbench.methods.controls import Nameless
from descbench.methods.disclip import Selected, SelectFewshot, layers_of, selected_in
from descbench.scoring import BLOCK, unit_views, whole
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

WEIGHTS = np.arange(0, 40, 0.25)
"""The weights of the name that the paper tries, (160,)."""

FLOOR = 0.3
"""From this cosine to the mean image on, a text passes the few-shot filter even if the name comes nearer."""

GRID = 2.0**40
"""Similarities to the support are whole numbers of 2^-40: they add up exactly, so that no order of the classes or of
the images reaches a selection. The authors' float32 has 24 bits."""


CACHED = 1 << 18
"""How many float64 a block of gains has on a CPU, 2 MB: several passes go over it while it is in the cache."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images that choose something: texts as `support`, or the weight of the name as a validation split.

    `features` (M, D), or (M, V, D) of views kept apart; `labels` (M,), ids of a vocabulary. `name` is that of the
    split, and `ids` are those of its images, (M,): by them an image is found that is also tested on. `accepted` (M, L)
    has all right ids, where some image has several.
    """

    features: Any
    labels: Any
    name: str = ""
    ids: tuple[str, ...] = ()
    accepted: np.ndarray | None = None

    @classmethod
    def of(cls, given: Any, vocabulary: Vocabulary, what: str) -> Labelled:
        """One that is checked, with float32 unit rows, from another or from two arrays (features, labels).

        `what` it is ("support") stands in the `InputError` for anything else.
        """
        if not isinstance(given, Labelled) and (not isinstance(given, tuple | list) or len(given) != 2):
            raise InputError(
                f"{what} is two arrays, (features (M, D), labels (M,)), given: {type(given).__name__}"
                + (f" of {len(given)}" if isinstance(given, tuple | list) else "")
            )
        found: Labelled = given if isinstance(given, Labelled) else cls(*given)
        features = unit_views(found.features, "cpu", f"{what} features").numpy()
        labels = np.asarray(found.labels)
        if labels.shape != (len(features),) or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"{what} labels are one class id for each of the {len(features)} {what} features, given: "
                f"{labels.dtype} of shape {labels.shape}"
            )
        if found.ids and len(found.ids) != len(labels):
            raise InputError(f"{what} ids are one for each of the {len(labels)} images, given: {len(found.ids)}")
        strangers = np.setdiff1d(labels, vocabulary.ids)
        if len(strangers):
            raise InputError(
                f"{what} labels {listed(strangers.tolist())} are no ids of the vocabulary, which has "
                f"{len(vocabulary)} classes; a label is vocabulary.id(name)"
            )
        return replace(found, features=features, labels=labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        return f"{self.name} ({len(self)} images)"

    def right(self, answers: np.ndarray) -> np.ndarray:
        """Whether class ids (..., M) are right for the images, (..., M) bool."""
        accepted = self.labels[:, None] if self.accepted is None else self.accepted  # (M, L)
        return np.asarray((answers[..., None] == accepted).any(axis=-1))

    def check_apart(self, what: str, ids: Sequence[str], other: str) -> None:
        """Raises `InputError` where an image of these is among those of another set: what it chooses would be tried on
        the image that chose it."""
        if shared := set(self.ids) & set(ids):
            raise InputError(
                f"{len(shared)} of the {len(set(ids))} images of {other} are in the {what} set {self.name} too, and "
                "what is chosen by an image must not be counted on it; take them out of one of the two"
            )


@dataclass(frozen=True)
class Tuning:
    """The weight `w` of the name that a `split` chose, where `right` of its images were right."""

    w: float
    split: Labelled
    right: int

    def __str__(self) -> str:
        return f"w = {self.w:g} tuned on {self.split}"


@dataclass(frozen=True, eq=False)
class Support:
    """Labelled images, as the mean feature of each class, (C, D) float64, and the number of its images, (C,)."""

    means: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, support: Any, vocabulary: Vocabulary) -> Support:
        """From `Labelled`, or features (M, D) and labels (M,), ids of the vocabulary; else raises `InputError`."""
        checked = Labelled.of(support, vocabulary, "support")
        features = np.asarray(whole(checked.features), dtype=np.float64)
        positions = vocabulary.positions(checked.labels)
        counts = np.bincount(positions, minlength=len(vocabulary))
        sums = np.zeros((len(vocabulary), features.shape[1]))
        np.add.at(sums, positions, features)
        return cls(sums / np.maximum(counts, 1)[:, None], counts)

    def similar(self, texts: torch.Tensor) -> np.ndarray:
        """The mean similarity of text features (T, D) to the images of each class, (C, T); 0 for one without images."""
        rows = texts.cpu().numpy().astype(np.float64)
        if rows.shape[1] != self.means.shape[1]:
            raise InputError(
                f"support features have {self.means.shape[1]} dimensions, the texts {rows.shape[1]}: they are not of "
                "one model. Encode both with the same encoder."
            )
        return np.asarray(self.means @ rows.T)


def check_stages(method: object, stages: Sequence[Any], support: Any) -> None:
    """Raises `InputError` where support is missing or not wanted, or a selecting method stands where it cannot."""
    needing = [stage for stage in stages if getattr(stage, "needs_support", False)]
    if support is None and needing:
        raise InputError(
            f"{needing[0]!r} selects by labelled images and has none; give support=(features (M, D), labels (M,)), "
            "with class ids as labels"
        )
    if support is not None and not needing:
        raise InputError(f"{method!r} does not select from labelled images; leave out support")
    for number, stage in enumerate(stages):
        chosen, layers = selected_in(stage), layers_of(stage)
        if chosen and number == 0:
            raise InputError(f"{stage!r} decides among candidates; write cascade(template, {stage!r}, k=3), or disclip")
        if chosen and (chosen.w or chosen.named) and any(isinstance(layer, Nameless) for layer in layers):
            raise InputError(f"{stage!r} still scores the name; write {chosen.spelled}(w=0) in it")
        if chosen and getattr(method, "budget", None) is not None:
            raise InputError(f"{stage!r} asks about every class, whatever the candidates; leave out budget")
        if number and filters(stage):
            raise InputError(f"{stage!r} cannot be a later stage of a cascade; select_fewshot goes with the first one")


def check_names(stages: Sequence[Any], vocabulary: Vocabulary) -> None:
    """Raises `InputError` where a stage has no place for a class's further names."""
    named = [stage for stage in stages if (chosen := selected_in(stage)) and chosen.named]
    if named and (further := vocabulary.synonyms):
        shown = listed(f"{vocabulary.name(id_)} = {' = '.join(several)}" for id_, several in further.items())
        raise InputError(
            f"{named[0]!r} repeats its texts for one name a class, and {len(further)} of {len(vocabulary)} classes "
            f"have synonyms: {shown}. Leave out named=True, or the synonyms"
        )


def filters(stage: object) -> bool:
    """Whether the few-shot filter stands somewhere in a stage."""
    return any(isinstance(layer, SelectFewshot) for layer in layers_of(stage))


def confirmed(
    bank: TextBank, vocabulary: Vocabulary, support: Support, encode: Callable[[Sequence[str]], torch.Tensor]
) -> tuple[TextBank, np.ndarray]:
    """The texts that the few-shot filter keeps, and which classes lost all of theirs, (C,) bool."""
    names = [plain(name) for name in vocabulary.names]
    classes = np.repeat(np.arange(len(vocabulary)), np.diff(bank.offsets))  # (T,)
    lengths = np.maximum(np.linalg.norm(support.means, axis=1), 1e-12)
    texts = _own(encode(bank.texts), support, classes) / lengths[classes]
    limits = np.minimum(_own(encode(names), support, np.arange(len(names))) / lengths, FLOOR)
    unknown = (support.counts == 0) | bank.undescribed
    keep = (texts > limits[classes]) | unknown[classes]  # (T,)
    left = np.bincount(classes[keep], minlength=len(vocabulary))
    lists = [
        [text for text, kept in zip(bank.texts[start:stop], keep[start:stop], strict=True) if kept]
        for start, stop in zip(bank.offsets, bank.offsets[1:], strict=False)
    ]
    filtered = TextBank.of(vocabulary, lists)
    weights = None
    if bank.weights is not None:
        runs = [bank.weights[(classes == c) & keep] if left[c] else np.ones(1) for c in range(len(vocabulary))]
        weights = np.concatenate(runs).astype(np.float32)
    found = TextBank(filtered.texts, filtered.offsets, bank.undescribed | (left == 0), weights, bank.anchors)
    return found, left == 0


def _own(texts: torch.Tensor, support: Support, classes: np.ndarray) -> np.ndarray:
    """The mean similarity of each text to the images of its own class, (T,)."""
    support.similar(texts[:1])  # of the same dimension?
    return np.asarray(np.einsum("td,td->t", texts.cpu().numpy().astype(np.float64), support.means[classes]))


class Selector:
    """What a stage with `selected` in it answers among candidates: built once for its texts and its support.

    `encode` gives text features (n, D) on the images' device. Sets of candidates are rows of positions, ascending.
    """

    def __init__(
        self,
        chosen: Selected,
        bank: TextBank,
        vocabulary: Vocabulary,
        support: Support | None,
        encode: Callable[[Sequence[str]], torch.Tensor],
    ) -> None:
        self.chosen, self.names, self.support, self.encode = chosen, vocabulary.names, support, encode
        self.captions = [tuple(map(chosen.caption, vocabulary.names_of(id_))) for id_, _ in vocabulary]
        self.texts, self.pool, own = _in_order(bank)  # the first `pool` texts may be chosen for any class
        self.lists = _padded(own if chosen.own else [rows[: chosen.m] for rows in own])  # (C, L)
        self.features = encode(self.texts)  # (Q, D)
        if support is not None:
            self._similar = np.round(support.similar(self.features[: self.pool]) * GRID)  # (C, P)

    def select(self, sets: np.ndarray) -> np.ndarray:
        """For each class of each set (S, k) the rows of its texts, ascending, (S, k, L); -1 where it has fewer."""
        if self.support is None or not self.pool:
            return np.asarray(self.lists[sets])
        import torch

        # float64 throughout, which Apple's GPUs lack
        cpu = torch.device("cpu")
        device = cpu if self.features.device.type == "mps" else self.features.device
        similar = torch.as_tensor(self._similar, device=device)
        seen = torch.as_tensor(self.support.counts > 0, device=device)
        lists = torch.as_tensor(self.lists, device=device)
        width = max(self.chosen.m, lists.shape[1])
        out = np.empty((*sets.shape, width), dtype=np.int64)
        for part in _blocks(len(sets), sets.shape[1] * self.pool, CACHED if device == cpu else BLOCK):
            block = torch.as_tensor(sets[part], device=device)
            found = self._best(similar[block], seen[block])  # (s, k, m)
            rows = torch.full((*block.shape, width), -1, device=device)
            rows[..., : found.shape[-1]] = found
            bare = found[..., 0] < 0  # nothing tells this class from the others: the first of its own list
            rows[bare] = torch.nn.functional.pad(lists[block[bare]], (0, width - lists.shape[1]), value=-1)
            out[part] = rows.cpu().numpy()
        return out

    def _best(self, similar: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """The rows of the m largest gains, ascending and then -1, (s, k, m); `similar` (s, k, P) is to the support.

        `seen` (s, k) are the classes with support; the others neither choose nor stand in the way.
        """
        import torch

        nothing = -torch.inf
        whole = bool(seen.all())
        known = similar if whole else similar.masked_fill(~seen[..., None], nothing)
        behind = known != known.amax(dim=1, keepdim=True)  # (s, k, P)
        total = (similar if whole else similar.masked_fill(~seen[..., None], 0)).sum(dim=1, keepdim=True)
        # n times the mean difference: the order is the same, and whole numbers stay whole.
        gain = (similar * seen.sum(dim=1)[:, None, None]).sub_(total).masked_fill_(behind, nothing)
        if not whole:
            gain.masked_fill_(~seen[..., None], nothing)
        m = min(self.chosen.m, self.pool)
        values, found = gain.topk(min(m + 1, self.pool), dim=-1)
        if self.pool > m:
            # A tie across the edge, where `topk` may take any: by the order of the pool.
            tied = (values[..., m - 1] == values[..., m]) & (values[..., m] > nothing)
            if tied.any():
                again, order = gain[tied].sort(dim=-1, descending=True, stable=True)
                values[tied], found[tied] = again[:, : m + 1], order[:, : m + 1]
        last = self.pool
        found = found[..., :m].masked_fill(values[..., :m] == nothing, last).sort(dim=-1).values
        return found.masked_fill(found == last, -1)

    def parts(self, images: torch.Tensor, set_of: np.ndarray, sets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores of images (N, D) for the classes of their sets, by the captions and by the descriptors, (N, k)
        both: a score is w x the first + the second."""
        import torch

        rows, features, _ = self._texts_of(sets)
        column = {own: i for i, own in enumerate(dict.fromkeys(self.captions))}
        own = torch.as_tensor([column[captions] for captions in self.captions], device=images.device)
        # Of a class with synonyms the mean similarity to its captions, which is that to their mean.
        names = self.encode([text for captions in column for text in captions])
        if len(names) > len(column):
            names = torch.stack([part.mean(dim=0) for part in torch.split(names, [*map(len, column)])])
        names = names.T
        texts = features.T
        index = torch.as_tensor(rows, device=images.device)  # (S, k, L)
        classes = own[torch.as_tensor(sets, device=images.device)]  # (S, k)
        of = torch.as_tensor(set_of, device=images.device)
        caption = torch.empty(len(images), sets.shape[1], device=images.device)
        described = torch.empty_like(caption)
        for part in _blocks(len(images), texts.shape[1] + names.shape[1] + 3 * rows[0].size):
            x, mine = images[part], index[of[part]]  # (n, k, L)
            caption[part] = (x @ names).gather(1, classes[of[part]])
            # One column a distinct text: in a product, two equal columns may differ in the last bit.
            similar = (x @ texts).gather(1, mine.clamp_min(0).flatten(1)).view(mine.shape)
            if self.chosen.pool == "max_score":
                described[part] = similar.masked_fill(mine < 0, -torch.inf).amax(dim=-1)
            else:
                described[part] = similar.masked_fill(mine < 0, 0).sum(dim=-1) / (mine >= 0).sum(dim=-1)
        return caption, described

    def scores(self, images: torch.Tensor, set_of: np.ndarray, sets: np.ndarray) -> np.ndarray:
        """The scores of images for the classes of their sets, (N, k)."""
        caption, described = self.parts(images, set_of, sets)
        found = described if self.chosen.named else self.chosen.w * caption + described
        return np.asarray(found.cpu().numpy())

    def curve(self, images: torch.Tensor, set_of: np.ndarray, sets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """For each weight of the name the column of each image's best class in its set, (W, N); ties by position."""
        caption, described = (part.cpu().numpy() for part in self.parts(images, set_of, sets))
        answers = np.empty((len(weights), len(images)), dtype=np.int64)
        for row, weight in enumerate(weights):
            answers[row] = (np.float32(weight) * caption + described).argmax(axis=1)
        return answers

    def shares(self, image: torch.Tensor, row: np.ndarray) -> list[list[tuple[str, float, float, float]]]:
        """For one image (D,) and each class of one set (k,): the texts, their similarities, what each adds, and what
        part of the weight of all it has."""
        rows, features, texts = self._texts_of(row[None, :])
        similar = (features @ image).tolist()
        caption_weight = 0.0 if self.chosen.named else self.chosen.w
        whole = 1 + caption_weight
        found = []
        for position, c in enumerate(row.tolist()):
            own = [i for i in rows[0, position].tolist() if i >= 0]
            if self.chosen.pool == "max_score":
                best = max(own, key=lambda i: similar[i])
                counts = {i: float(i == best) for i in own}
                mine = [(texts[i], similar[i], similar[i] * one, one / whole) for i, one in counts.items()]
            else:
                mine = [(texts[i], similar[i], similar[i] / len(own), 1 / len(own) / whole) for i in own]
            if caption_weight:
                for caption in self.captions[c]:
                    near = float(self.encode([caption])[0] @ image)
                    part = caption_weight / len(self.captions[c])
                    mine.append((caption, near, part * near, part / whole))
            found.append(mine)
        return found

    def _texts_of(self, sets: np.ndarray) -> tuple[np.ndarray, torch.Tensor, list[str]]:
        """The rows (S, k, L) of the texts of each class of each set, their features, and the texts."""
        rows = self.select(sets)
        if not self.chosen.named:
            return rows, self.features, self.texts
        # Repeated in turn up to m, in the order of the pool, as the authors' code does.
        counts = (rows >= 0).sum(axis=-1, keepdims=True)
        rows = np.take_along_axis(rows, np.arange(self.chosen.m) % counts, axis=-1)
        pairs = np.stack([np.broadcast_to(sets[..., None], rows.shape), rows], axis=-1).reshape(-1, 2)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        written = [self.chosen.with_name(self.names[c], self.texts[i]) for c, i in distinct.tolist()]
        column = {text: i for i, text in enumerate(dict.fromkeys(written))}  # two classes may have one name
        of_text = np.array([column[text] for text in written])
        return of_text[where.ravel()].reshape(rows.shape), self.encode(list(column)), list(column)


def _in_order(bank: TextBank) -> tuple[list[str], int, list[np.ndarray]]:
    """The pool in the authors' order (the sorted lists, then first occurrence), then the names of undescribed classes;
    how many are of the pool; and for each class the rows of its own texts, ascending."""
    lists = [bank.texts_of(c) for c in range(len(bank.undescribed))]
    said = sorted(list(own) for own, bare in zip(lists, bank.undescribed, strict=True) if not bare)
    pool = dict.fromkeys(text for own in said for text in own)
    texts = list(dict.fromkeys([*pool, *sorted(text for own in lists for text in own)]))
    row = {text: i for i, text in enumerate(texts)}
    return texts, len(pool), [np.array(sorted({row[text] for text in own})) for own in lists]


def _padded(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Lists of different lengths as one array, (len(lists), L), with -1 behind the shorter ones."""
    out = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
    for row, values in zip(out, lists, strict=True):
        row[: len(values)] = values
    return out


def _blocks(count: int, width: int, size: int = BLOCK) -> Iterator[slice]:
    """Cut `count` rows into slices of at most `size` floats, `width` floats a row."""
    step = max(1, size // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
