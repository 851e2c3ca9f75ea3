"""What scoring costs: against the least that it could cost, and against loops that follow the definitions.

    python benchmarks/scoring.py

Ready features from a seed; no encoder runs. The sides of a comparison take turns, and medians are compared.
"""

from __future__ import annotations

import os
import resource
import time
from itertools import combinations, pairwise

import numpy as np
import torch
from _shared import ReadyTexts, medians

import descbench as db
from descbench.devices import pick_device
from descbench.scoring import best, class_scores
from descbench.texts import TextBank

ROUNDS = 7
TOP_K = 20
BATCH = 640  # images at once in the published DCLIP code

N, C, T, D = 5_000, 1_000, 5_800, 512
FOLLOWED, GENUS, K, CAPTIONS = (
    10_000,
    40,
    10,
    4,
)  # the follow-up: images, classes that may compete, candidates, captions
PART = 200  # of its images are enough for the loop
MANY, CROWD = 100_000, 20_000  # the case of many classes: classes, images
WIDE, WIDE_K = (250, 500, 1000), 20  # its follow-up: images, candidates

DEVICE = pick_device("auto")


def unit(rows: int, generator: torch.Generator) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, D, generator=generator), dim=1)


def show(text: str, seconds: float, reference: float | None = None, limit: str = "") -> None:
    ratio = "" if reference is None else f"{seconds / reference:8.2f} x"
    print(f"  {text:<62}{1000 * seconds:9.1f} ms{ratio}{limit}")


def drawn() -> tuple[torch.Tensor, torch.Tensor, TextBank]:
    """Images (N, D), texts (T, D), and which of these belong to which of C classes."""
    generator = torch.Generator().manual_seed(0)
    images, texts = unit(N, generator).to(DEVICE), unit(T, generator).to(DEVICE)
    cuts = torch.randperm(T - 1, generator=generator)[: C - 1].sort().values.numpy() + 1
    offsets = np.concatenate([[0], cuts, [T]])
    return images, texts, TextBank(tuple(map(str, range(T))), offsets, np.zeros(C, dtype=bool))


def mean_pooled() -> None:
    """DCLIP's average over all classes."""
    images, texts, bank = drawn()
    index = torch.arange(T, device=DEVICE)
    of_class = [texts[first:last] for first, last in pairwise(bank.offsets)]
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
    mine, floor, slow = medians(ours, least, loop, rounds=ROUNDS, device=DEVICE)
    print(f"\nA mean-pooled method: N {N:,} images, C {C:,} classes, T {T:,} texts, D {D}")
    show(f"one matrix product and topk({TOP_K})", floor)
    show("descbench: prototypes, scores, the best of each image", mine, floor, "   at most 1.3 is the aim")
    show(f"a loop over the classes, {BATCH} images at once", slow, floor)


def max_pooled() -> None:
    """DCLIP's largest similarity: every text has to be compared with every image."""
    images, texts, bank = drawn()
    index = torch.arange(T, device=DEVICE)
    matrix = texts.T.contiguous()  # (D, T)

    def ours() -> np.ndarray:
        positions, _ = best(images, class_scores(texts, index, bank, "max_score", 1.0), C + T, C, TOP_K)
        return positions[:, 0]

    def least() -> torch.Tensor:
        return images @ matrix

    def loop() -> np.ndarray:
        similar = least()
        scores = [similar[:, first:last].amax(dim=1) for first, last in pairwise(bank.offsets)]
        return torch.stack(scores, dim=1).argmax(dim=1).cpu().numpy()

    agree(ours(), loop())
    mine, floor, slow = medians(ours, least, loop, rounds=ROUNDS, device=DEVICE)
    print(f"\nA max-pooled method: N {N:,}, C {C:,}, T {T:,}, D {D}")
    show("one matrix product, images with texts", floor)
    show("descbench: scores, the best of each image", mine, floor, "   at most 1.5 is the aim")
    show("the product and a loop over the classes", slow, floor)


def many_classes() -> None:
    """So many classes that a matrix of all scores would not fit: 8 GB here."""
    generator = torch.Generator().manual_seed(0)
    images, texts = unit(CROWD, generator).to(DEVICE), unit(MANY, generator).to(DEVICE)
    bank = TextBank(tuple(map(str, range(MANY))), np.arange(MANY + 1), np.zeros(MANY, dtype=bool))
    index = torch.arange(MANY, device=DEVICE)
    matrix = texts.T.contiguous()

    def least() -> None:
        for start in range(0, CROWD, 160):
            images[start : start + 160] @ matrix

    def ours() -> np.ndarray:
        return best(images, class_scores(texts, index, bank, "mean_score", 1.0), MANY, MANY, 5)[0]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ours()
    mine = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    start = time.perf_counter()
    least()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    floor = time.perf_counter() - start
    print(f"\nMany classes: C {MANY:,}, N {CROWD:,}, D {D}, one round")
    show("the products alone, a block of images at a time", floor)
    show("descbench: prototypes, scores, the best of each image", mine, floor, "   at most 1.3 is the aim")
    print(f"  peak memory grew by {grown:.0f} MB above images, texts and their {MANY * D * 4 >> 20} MB matrix")


def follow_up(different: int) -> None:
    """FuDD's second stage: each set of candidates has texts of its own. `different` images, each as often as needed."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = db.Vocabulary([f"class {i}" for i in range(C)])
    method = db.method(f"fudd(k={K})")
    pairs = {
        (a, b): tuple([f"class {i} beside class {j}, {n}" for n in range(CAPTIONS)] for i, j in ((a, b), (b, a)))
        for a in range(C)
        for b in range(a + 1, (a // GENUS + 1) * GENUS)
    }
    descriptions = db.Descriptions(pairs=pairs, names=dict(vocabulary))
    bare = method.stages[0].texts(vocabulary, descriptions).texts
    genera = unit(C // GENUS, generator).repeat_interleave(GENUS, dim=0)
    centres = torch.nn.functional.normalize(genera + unit(C, generator), dim=1)  # (C, D)
    side = [(i, texts) for pair, sides in pairs.items() for i, texts in zip(pair, sides, strict=True)]
    owner = torch.tensor([i for i, texts in side for _ in texts])
    near = torch.nn.functional.normalize(centres[owner] + unit(len(owner), generator), dim=1)
    rows = {text: row for row, text in enumerate([*bare, *(text for _, texts in side for text in texts)])}
    features = torch.cat([centres, near])
    labels = torch.arange(different) % C
    images = torch.nn.functional.normalize(centres[labels] + unit(different, generator), dim=1)
    images = images.repeat(FOLLOWED // different, 1)  # (N, D)

    def classifier() -> db.Classifier:
        return db.Classifier(vocabulary, method, ReadyTexts(rows, features), descriptions=descriptions)

    ready = classifier()

    def ours() -> np.ndarray:
        return ready.predict_features(images).ids[:, 0]

    def first() -> np.ndarray:
        return classifier().predict_features(images).ids[:, 0]

    def candidates(of: torch.Tensor) -> np.ndarray:
        return (of @ centres.T).topk(K, dim=1).indices.numpy()

    part = torch.arange(PART) * (FOLLOWED // PART)

    def loop() -> np.ndarray:
        answers = []
        for image, among in zip(images[part], candidates(images[part]), strict=True):
            scores = []
            for a in among:
                texts = {text for b in among if b != a for text in (descriptions.pair(int(a), int(b)) or ([],))[0]}
                mean = torch.stack([features[rows[text]] for text in sorted(texts)]).mean(dim=0)
                scores.append(float(image @ mean / mean.norm()))
            answers.append(among[int(np.argmax(scores))])
        return np.array(answers)

    def stage_one() -> object:
        return candidates(images)

    agree(ours()[part], loop())
    mine, slow, once, plain = medians(ours, loop, first, stage_one, rounds=ROUNDS, device=DEVICE)
    slow *= FOLLOWED / PART
    sets = len(np.unique(np.sort(candidates(images), axis=1), axis=0))
    print(f"\nA follow-up: N {FOLLOWED:,} images, {sets:,} different sets of k = {K} candidates, {C:,} classes, D {D},")
    print(f"{CAPTIONS * (K - 1)} captions a class and set; both stages, text features ready")
    show(f"a loop over images and candidates, measured on {PART} and scaled", slow)
    show("descbench: Classifier.predict_features, both stages", mine, slow)
    stage = mine - plain
    show("descbench: less the first stage", stage, slow, f"  = 1 / {slow / stage:.0f}; at most 1 / 50 is the aim")
    show(f"descbench: its first call, which lays out {len(pairs):,} pairs", once, slow)
    show("the first stage alone", plain)
    print(f"  descbench: {1000 * mine / FOLLOWED:.4f} ms an image")


def wide_follow_up() -> None:
    """A follow-up among so many classes that nothing of size C x C would fit: 10 GB if it were a byte an entry."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = db.Vocabulary([f"class {i}" for i in range(MANY)])
    method = db.method(f"fudd(k={WIDE_K})")
    centres = unit(MANY, generator)  # (C, D)
    captions = unit(2 * WIDE[-1] * WIDE_K * (WIDE_K - 1) // 2, generator)
    bare = method.stages[0].texts(vocabulary, db.Descriptions()).texts
    print(f"\nA follow-up among C {MANY:,} classes, k = {WIDE_K}, each image its own set, first call, D {D}")
    for count in WIDE:
        drawn = torch.randint(MANY, (count,), generator=generator)
        images = torch.nn.functional.normalize(centres[drawn] + unit(count, generator), dim=1)
        sets = (images @ centres.T).topk(WIDE_K, dim=1).indices.sort(dim=1).values.tolist()
        occurring = {pair for row in sets for pair in combinations(row, 2)}
        pairs = {(a, b): ([f"class {a}, not {b}"], [f"class {b}, not {a}"]) for a, b in sorted(occurring)}
        descriptions = db.Descriptions(pairs=pairs, names=dict(vocabulary))
        texts = [*bare, *(text for sides in pairs.values() for side in sides for text in side)]
        features = torch.cat([centres, captions[: len(texts) - MANY]])
        encoder = ReadyTexts({text: row for row, text in enumerate(texts)}, features)
        plain = db.Classifier(vocabulary, method.stages[0], encoder)
        followed = db.Classifier(vocabulary, method, encoder, descriptions=descriptions)
        start = time.perf_counter()
        plain.predict_features(images)
        first = time.perf_counter() - start
        followed.predict_features(images)
        stage = time.perf_counter() - start - 2 * first  # both ran the first stage
        show(f"{count} images, {len(pairs):,} pairs: {1e6 * stage / len(pairs):.0f} us a pair", stage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    held = (features.numel() + captions.numel()) * 4 >> 20
    print(f"  peak memory of the whole process {peak:,} MB, of it {held:,} MB for features made here")


def agree(*answers: np.ndarray) -> None:
    """A comparison of speed means something only where all sides answer the same."""
    for other in answers[1:]:
        same = float((answers[0] == other).mean())
        if same < 0.999:
            raise SystemExit(f"the sides answer alike for {100 * same:.1f} % of the images only")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, device {DEVICE}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    mean_pooled()
    max_pooled()
    follow_up(FOLLOWED)  # the worst case: hardly two images have the same candidates
    follow_up(FOLLOWED // 100)
    if os.environ.get("BENCH_HEAVY", "1") != "0":
        many_classes()
        wide_follow_up()
