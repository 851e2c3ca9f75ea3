"""What it costs to leave out each description in turn: all at once, against a loop that scores again without each one,
and against one product of all images with all texts.

    python benchmarks/usefulness.py [IMAGES]

Ready features from a seed; no encoder runs. Of the loop a part is measured and scaled. Counts are compared first.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from _shared import ReadyTexts, medians

import descbench as db
from descbench.devices import pick_device
from descbench.embedding import Embedded
from descbench.worth import usefulness

N = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
C, OWN, D, ROUNDS, PART = 1_000, 6, 512, 3, 20
DEVICE = pick_device("auto")


class Names(tuple[str, ...]):
    """The names of a data set whose features are there."""

    fingerprint = "names"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    names = Names(f"class {i}" for i in range(C))
    told = db.Descriptions(
        {i: [f"class {i}, mark {n}" for n in range(OWN)] for i in range(C)}, names=dict(enumerate(names))
    )
    centres = torch.nn.functional.normalize(torch.randn(C, D, generator=generator), dim=1)
    texts = [text for own in told.classes.values() for text in own]
    rows = torch.nn.functional.normalize(
        centres.repeat_interleave(OWN, dim=0) + 0.08 * torch.randn(C * OWN, D, generator=generator), dim=1
    )
    labels = np.arange(N) % C
    drawn = centres[labels] + 0.2 * torch.randn(N, D, generator=generator)
    images = torch.nn.functional.normalize(drawn, dim=1)
    ids = tuple(map(str, range(N)))
    data = Embedded(names, ids, images.numpy(), labels, ids)  # type: ignore[arg-type]
    encoder = ReadyTexts({text: row for row, text in enumerate(texts)}, rows)
    clf = db.Classifier(db.Vocabulary(list(names)), db.method("cupl(pool='mean_score')"), encoder, descriptions=told)
    x, t = images.to(DEVICE), rows.T.contiguous().to(DEVICE)

    def product() -> None:
        for start in range(0, N, 1024):
            x[start : start + 1024] @ t

    def scored(descriptions: db.Descriptions) -> np.ndarray:
        clf.descriptions = descriptions
        return clf.predict_features(data.features, 1).ids[:, 0] == labels

    result = usefulness(clf, data)
    hits = scored(told)
    begun = time.perf_counter()
    for use in result.uses[:: len(result.uses) // PART][:PART]:
        own = [text for n, text in enumerate(told.classes[use.id], 1) if n != use.number]
        after = scored(replace(told, classes={**told.classes, use.id: own}))
        counted = (int((after & ~hits).sum()), int((hits & ~after).sum()))
        if counted != (use.gained, use.lost):
            raise SystemExit(f"{use.text}: the loop gives {counted}, all at once {(use.gained, use.lost)}")
    loop = (time.perf_counter() - begun) / PART * len(texts)
    clf.descriptions = told
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours, floor = medians(lambda: usefulness(clf, data), product, rounds=ROUNDS, device=DEVICE)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    moved = sum(use.gained + use.lost for use in result.uses)
    print(f"N {N:,} images, {result.right:,} right, C {C:,}, T {len(texts):,}, D {D}, {moved:,} moved; {DEVICE}")
    print(f"  one product of images with texts                         {1000 * floor:10.0f} ms")
    print(f"  descbench: what each description is worth                {1000 * ours:10.0f} ms {ours / floor:8.2f} x")
    print(
        f"  a loop, measured for {PART} descriptions and scaled          {1000 * loop:10.0f} ms {loop / floor:8.0f} x"
    )
    print(f"  the loop takes {loop / ours:,.0f} times as long; peak memory grew by {grown:.0f} MB")
    print(f"  an (N, T) matrix has {N * len(texts) * 4 >> 20} MB")


if __name__ == "__main__":
    main()
