"""What scoring costs: against the least that it could cost, and against loops that follow the definitions.

    python benchmarks/scoring.py

Ready features from a seed; no encoder runs. The sides of a comparison take turns, and medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

import descbench as db
from descbench.scoring import best, class_scores, pick_device
from descbench.texts import TextBank

ROUNDS = 7
TOP_K = 20
BATCH = 640  # images at once in the published DCLIP code

N, C, T, D = 5_000, 1_000, 5_800, 512
FOLLOWED, CLASSES, K, CAPTIONS = 500, 60, 10, 4  # the follow-up: images, classes, candidates, captions of a pair

DEVICE = pick_device("auto")


def medians(*sides: Callable[[], object]) -> list[float]:
    """The median seconds of each side, after one round that is not counted."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(ROUNDS + 1):
        for side, measured in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            side()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if turn:
                measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]


def unit(rows: int, generator: torch.Generator) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, D, generator=generator), dim=1)


def show(text: str, seconds: float, reference: float | None = None, limit: str = "") -> None:
    ratio = "" if reference is None else f"{seconds / reference:8.2f} x"
    print(f"  {text:<62}{1000 * seconds:9.1f} ms{ratio}{limit}")


def mean_pooled() -> None:
    """DCLIP's average over all classes."""
    generator = torch.Generator().manual_seed(0)
    images, texts = unit(N, generator).to(DEVICE), unit(T, generator).to(DEVICE)
    cuts = torch.randperm(T - 1, generator=generator)[: C - 1].sort().values.numpy() + 1
    offsets = np.concatenate([[0], cuts, [T]])
    bank = TextBank(tuple(map(str, range(T))), offsets, np.zeros(C, dtype=bool))
    index = torch.arange(T, device=DEVICE)
    of_class = [texts[first:last] for first, last in pairwise(offsets)]
    matrix = torch.stack([rows.mean(dim=0) for rows in of_class]).T.contiguous()  # (D, C)

    def ours() -> np.ndarray:
        positions, _ = best(images, class_scores(texts, index, bank, "mean_score", 1.0), C, C, TOP_K)
        return positions[:, 0]

    def least() -> np.ndarray:
        return (images @ matrix).topk(TOP_K, dim=1).indices.cpu().numpy()[:, 0]

    def loop() -> np.ndarray:
        answers = []
        for start in range(0, N, BATCH):
            batch = images[start : start + BATCH]
            scores = torch.stack([(batch @ rows.T).mean(dim=1) for rows in of_class], dim=1)
            answers.append(scores.argmax(dim=1))
        return torch.cat(answers).cpu().numpy()

    agree(ours(), least(), loop())
    mine, floor, slow = medians(ours, least, loop)
    print(f"\nA mean-pooled method: N {N:,} images, C {C:,} classes, T {T:,} texts, D {D}")
    show(f"one matrix product and topk({TOP_K})", floor)
    show("descbench: prototypes, scores, the best of each image", mine, floor, "   at most 1.3 is the aim")
    show(f"a loop over the classes, {BATCH} images at once", slow, floor)


class ReadyTexts:
    """An encoder that looks features up, so that only scoring is measured."""

    name = fingerprint = "ready texts"
    logit_scale = 100.0

    def __init__(self, features: dict[str, torch.Tensor]) -> None:
        self.features = features

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([self.features[text] for text in texts])


def follow_up(different: int) -> None:
    """FuDD's second stage: each set of candidates has texts of its own. `different` images, each as often as needed."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = db.Vocabulary([f"class {i}" for i in range(CLASSES)])
    method = db.method(f"fudd(k={K})")
    pairs = {
        (a, b): tuple([f"class {i} beside class {j}, {n}" for n in range(CAPTIONS)] for i, j in ((a, b), (b, a)))
        for a in range(CLASSES)
        for b in range(a + 1, CLASSES)
    }
    descriptions = db.Descriptions(pairs=pairs, names=dict(vocabulary))
    bare = method.stages[0].texts(vocabulary, descriptions).texts
    centres = unit(CLASSES, generator)
    known = dict(zip(bare, centres, strict=True))
    for (a, b), sides in pairs.items():
        for i, texts in zip((a, b), sides, strict=True):
            near = torch.nn.functional.normalize(centres[i] + unit(len(texts), generator), dim=1)
            known |= dict(zip(texts, near, strict=True))
    labels = torch.arange(different) % CLASSES
    images = torch.nn.functional.normalize(centres[labels] + 2.0 * unit(different, generator), dim=1)
    images = images.repeat(FOLLOWED // different, 1)  # (N, D)
    classifier = db.Classifier(vocabulary, method, ReadyTexts(known), descriptions=descriptions)
    names = torch.stack([known[text] for text in bare])  # (C, D)

    def ours() -> np.ndarray:
        return classifier.predict_features(images).ids[:, 0]

    def stage_one() -> np.ndarray:
        return (images @ names.T).topk(K, dim=1).indices.numpy()

    def loop() -> np.ndarray:
        answers = []
        for image, candidates in zip(images, stage_one(), strict=True):
            scores = []
            for a in candidates:
                texts = {text for b in candidates if b != a for text in (descriptions.pair(int(a), int(b)) or ([],))[0]}
                mean = torch.stack([known[text] for text in sorted(texts)]).mean(dim=0)
                scores.append(float(image @ mean / mean.norm()))
            answers.append(candidates[int(np.argmax(scores))])
        return np.array(answers)

    agree(ours(), loop())
    mine, slow = medians(ours, loop)
    sets = len(np.unique(np.sort(stage_one(), axis=1), axis=0))
    print(f"\nA follow-up: N {FOLLOWED} images, {sets} different sets of k = {K} candidates, {CLASSES} classes, D {D},")
    print(f"{CAPTIONS} captions a class of a pair; choosing the texts is part of both sides")
    show("a loop over images and candidates", slow)
    show("descbench: Classifier.predict_features, both stages", mine, slow)
    print(f"  descbench: {1000 * mine / FOLLOWED:.2f} ms an image")


def agree(*answers: np.ndarray) -> None:
    """A comparison of speed means something only where all sides answer the same."""
    for other in answers[1:]:
        same = float((answers[0] == other).mean())
        if same < 0.999:
            raise SystemExit(f"the sides answer alike for {100 * same:.1f} % of the images only")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, device {DEVICE}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    mean_pooled()
    follow_up(FOLLOWED)  # the worst case: no two images have the same candidates
    follow_up(FOLLOWED // 10)
