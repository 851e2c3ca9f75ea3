"""The aviary as a data set: the 40 species of the field guide, rendered when they are looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

from descbench.arrays import digest
from descbench.datasets.base import Sample
from descbench.errors import SpecError

# Seeds of pictures for evaluation begin here; those of training pictures end below it. Data set `seed` s has the
# hundred thousand seeds from EVALUATION_SEEDS + s * PICTURES, so that no two share a picture.
EVALUATION_SEEDS = 1_000_000
PICTURES = 100_000
SIZE = 128


class DemoDataset:
    """`n` pictures of birds (600: 15 of each species), the species in turn, so that any n is balanced.

    Picture i is the same for every n. Spelled "demo", "demo:n=200", "demo:n=200,seed=1".
    """

    name = "aviary"
    domain = "birds"

    def __init__(self, n: int = 600, seed: int = 0) -> None:
        if not 1 <= n <= PICTURES or seed < 0:
            raise SpecError(f"demo:n={n},seed={seed} cannot be; what would do: n from 1 to {PICTURES}, seed from 0.")
        self.n = n
        self.seed = seed

    @classmethod
    def from_spec(cls, argument: str = "") -> DemoDataset:
        options = {}
        for part in filter(None, argument.split(",")):
            key, _, value = (text.strip() for text in part.partition("="))
            if key not in ("n", "seed") or not value.isdecimal():
                raise SpecError(f"data set 'demo' has no option {part!r}. Write for example demo:n=200,seed=1.")
            options[key] = int(value)
        return cls(**options)

    def __repr__(self) -> str:
        usual = {"n": 600, "seed": 0}
        options = [f"{key}={getattr(self, key)}" for key in usual if getattr(self, key) != usual[key]]
        return f"demo:{','.join(options)}" if options else "demo"

    def __len__(self) -> int:
        return self.n

    @cached_property
    def names(self) -> tuple[str, ...]:
        from descbench.demo.guide import species

        return tuple(page.name for page in species())

    @cached_property
    def fingerprint(self) -> str:
        content = [self.names, [(sample.id, sample.label) for sample in self.samples()]]
        return f"demo:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"

    def samples(self) -> Iterator[Sample]:
        """The id names renderer, bird and seed: whatever changes the pixels changes it."""
        from descbench.demo import renderer
        from descbench.demo.guide import species

        drawn_by = digest(Path(renderer.__file__))[:12]
        for index in range(self.n):
            label = index % len(self.names)
            page = species()[label]
            seed = EVALUATION_SEEDS + self.seed * PICTURES + index
            source = f"{page.name}, seed {seed}"
            name = f"aviary:{drawn_by}:{'-'.join(page.bird.values)}:{page.name}:{seed}:{SIZE}"
            yield Sample(name, partial(renderer.render, page.bird, seed, SIZE), label, source)
