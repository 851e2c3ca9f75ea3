"""What DisCLIP costs, selection and all 160 weights, against a loop over its definition.

    python benchmarks/disclip.py

Ready features from a seed; no encoder runs. The loop goes over a part of the images, and its time is scaled to all.
"""

from __future__ import annotations

import numpy as np
import torch
from _shared import ReadyTexts, medians

import descbench as db
from descbench.devices import pick_device
from descbench.selection import WEIGHTS

ROUNDS = 3
N, C, P, D = 10_000, 200, 1_300, 512
K, M, SHOTS = 3, 5, 16
PART = 100  # images of the loop

DEVICE = pick_device("auto")


def main() -> None:
    generator = torch.Generator().manual_seed(0)

    def near(centres: torch.Tensor, distance: float) -> torch.Tensor:
        off = torch.nn.functional.normalize(torch.randn(centres.shape, generator=generator), dim=1)
        return torch.nn.functional.normalize(centres + distance * off, dim=1)

    vocabulary = db.Vocabulary([f"class {i}" for i in range(C)])
    centres = near(torch.randn(1, D, generator=generator).expand(C, D) / D**0.5, 0.7)
    lists = {c: [f"feature {p}" for p in range(P) if p % C == c] for c in range(C)}
    known = {f"A photo of a class {c}.": row for c, row in enumerate(near(centres, 0.5))}
    known |= {f"feature {p}": row for p, row in enumerate(near(centres[torch.arange(P) % C], 1.0))}
    row_of, features = {text: row for row, text in enumerate(known)}, torch.stack(list(known.values()))
    labels = torch.arange(C).repeat_interleave(SHOTS)
    support = near(centres[labels], 1.0)
    images = near(centres[torch.randint(C, (N,), generator=generator)], 1.5)
    captions = torch.stack([known[f"A photo of a class {c}."] for c in range(C)]).numpy()
    pool = list(dict.fromkeys(text for own in sorted(lists.values()) for text in own))
    texts = torch.stack([known[text] for text in pool]).numpy()
    told = db.Descriptions(lists, names=dict(vocabulary))

    def ours() -> np.ndarray:
        # A new classifier each time: the selection is part of what is measured.
        clf = db.Classifier(
            vocabulary,
            db.method(f"disclip(k={K}, m={M})"),
            ReadyTexts(row_of, features),
            descriptions=told,
            support=(support, labels.numpy()),
        )
        return clf.curve(images)

    def loop(x: np.ndarray) -> np.ndarray:
        """Image by image, as published code does; the similarities to the support images are ready for all."""
        similar = texts @ support.numpy().T  # (P, M)
        nearness = np.stack([similar[:, labels.numpy() == c].mean(axis=1) for c in range(C)], axis=1)  # (P, C)
        answers = np.empty((len(WEIGHTS), len(x)), dtype=np.int64)
        for i, image in enumerate(x):
            candidates = sorted(range(C), key=lambda c, row=captions @ image: -row[c])[:K]
            chosen = {}
            for c in candidates:
                gains = []
                for p in range(len(pool)):
                    if all(nearness[p, c] >= nearness[p, other] for other in candidates):
                        gains.append((-sum(nearness[p, c] - nearness[p, other] for other in candidates) / K, p))
                chosen[c] = [p for _, p in sorted(gains)[:M]] or [pool.index(text) for text in lists[c][:M]]
            for w, weight in enumerate(WEIGHTS):
                scores = [weight * image @ captions[c] + np.mean(texts[chosen[c]] @ image) for c in candidates]
                answers[w, i] = candidates[int(np.argmax(scores))]
        return answers

    def vectors(x: np.ndarray) -> np.ndarray:
        """The same image by image, but with an array operation for all descriptors and one for all weights."""
        similar = texts @ support.numpy().T
        nearness = np.stack([similar[:, labels.numpy() == c].mean(axis=1) for c in range(C)], axis=1)
        answers = np.empty((len(WEIGHTS), len(x)), dtype=np.int64)
        for i, image in enumerate(x):
            candidates = np.argsort(-(captions @ image), kind="stable")[:K]
            among = nearness[:, candidates]
            scores = []
            for place, c in enumerate(candidates):
                ahead = np.flatnonzero((among[:, [place]] >= among).all(axis=1))
                gain = (among[ahead, place][:, None] - among[ahead]).mean(axis=1)
                rows = ahead[np.argsort(-gain, kind="stable")[:M]]
                if not len(rows):
                    rows = np.array([pool.index(text) for text in lists[int(c)][:M]])
                scores.append(WEIGHTS * (captions[c] @ image) + (texts[rows] @ image).mean())
            answers[:, i] = candidates[np.argmax(scores, axis=0)]
        return answers

    few = images[:PART].numpy()
    mine = ours()
    for other in (loop(few), vectors(few)):
        same = float((mine[:, :PART] == other).mean())
        if same < 0.999:
            raise SystemExit(f"the sides answer alike for {100 * same:.2f} % of the answers only")
    fast, slow, middle = medians(ours, lambda: loop(few), lambda: vectors(images.numpy()), rounds=ROUNDS, device=DEVICE)
    slow *= N / PART
    sets = len(np.unique(np.sort(np.argsort(-(images.numpy() @ captions.T), axis=1)[:, :K], axis=1), axis=0))
    print(f"torch {torch.__version__}, device {DEVICE}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    print(
        f"\nDisCLIP, selection and {len(WEIGHTS)} weights: N {N:,} images, {sets:,} different sets of {K} candidates,"
    )
    print(f"C {C} classes, P {P:,} descriptors, D {D}; {SHOTS} labelled images a class")
    print(f"  {f'a loop over the definition ({PART} images, scaled)':<62}{1000 * slow:11.1f} ms")
    print(f"  {'an image at a time, with arrays':<62}{1000 * middle:11.1f} ms")
    print(f"  {'descbench: Classifier.curve, selection included':<62}{1000 * fast:11.1f} ms")
    print(f"  the loop takes {slow / fast:,.0f} times as long (50 is the aim), the arrays {middle / fast:,.1f} times")


if __name__ == "__main__":
    main()
