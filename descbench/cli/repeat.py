"""`evaluate --config`: a kept run once more, from what its folder says that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.cli.bench import Given, describes, sha256
from descbench.errors import InputError

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.evaluation import Evaluation
    from descbench.methods import Cascade, Method
    from descbench.vocabulary import Vocabulary


@dataclass(frozen=True)
class Kept:
    """A kept run, and all that makes it again."""

    folder: Path
    given: Given
    encoder: str
    method: Method | Cascade
    vocabulary: Vocabulary
    labels: Mapping[str, str] | None
    known: Descriptions | None

    @cached_property
    def before(self) -> Evaluation:
        """What it answered."""
        from descbench.evaluation import Evaluation

        return Evaluation.load(self.folder)

    @property
    def groups(self) -> dict[str, str] | None:
        """The groups of its images, by their ids."""
        if self.before.group is None:
            return None
        return {id_: name for id_, name in zip(self.before.ids, self.before.group, strict=True) if name is not None}

    @classmethod
    def read(cls, path: Path) -> Kept:
        """The run in a folder, or of the run.json there.

        Raises `InputError` where there is none, where it does not say what it was given, and where the descriptions
        beside it are not those that it used.
        """
        from descbench import spec
        from descbench.runs import read_run
        from descbench.vocabulary import Vocabulary

        folder = path.parent if path.suffix == ".json" else path
        run = read_run(folder)
        told = run.get("specification", {})
        names = {f.name for f in fields(Given)}
        if absent := sorted({"data", "encoder", "method"} - set(told)):
            raise InputError(
                f"{folder}: run.json does not say what the run was given ({', '.join(absent)} missing): it is one of "
                "Python, or of an earlier descbench. Give DATA, --encoder and --method"
            )
        vocabulary = Vocabulary.from_json(run["vocabulary"])
        method = spec.method(told["method"])
        known = _descriptions(folder, told.get("descriptions")) if describes(method) else None
        return cls(
            folder,
            Given(**{name: value for name, value in told.items() if name in names}),
            told["encoder"],
            method,
            vocabulary,
            told.get("labels"),
            known and known.matched(vocabulary),
        )

    def held_against(self, again: Evaluation) -> str:
        """Whether a second run answered as the kept one did, in a sentence."""
        before = self.before
        first, second = before.predictions, again.predictions
        if before.ids != again.ids or first.ids.shape != second.ids.shape:
            gone, new = set(before.ids) - set(again.ids), set(again.ids) - set(before.ids)
            return (
                f"{self.folder} was run over other images: {len(gone)} of its {len(before.ids)} are gone, and "
                f"{len(new)} are new"
            )
        if np.array_equal(first.ids, second.ids) and np.array_equal(first.scores, second.scores):
            return f"{self.folder} is repeated: all {len(before.ids)} rows of answers and scores are equal"
        answers = int((first.ids[:, 0] != second.ids[:, 0]).sum())
        gap = float(np.abs(np.sort(first.scores) - np.sort(second.scores)).max())
        return (
            f"{self.folder} is repeated, but not to the last bit: {answers} of {len(before.ids)} answers differ, and "
            f"scores by up to {gap:.2g}"
        )


def _descriptions(folder: Path, told: Mapping[str, Any] | None) -> Descriptions | None:
    """The copy of the descriptions beside a run."""
    from descbench.descriptions import Descriptions

    if not told:
        return None
    path = folder / told["file"]
    if not path.is_file():
        raise InputError(f"no file {path}, the descriptions that this run used; a run cannot be repeated without")
    if (now := sha256(path)) != told["sha256"]:
        raise InputError(
            f"{path} was changed since the run: its sha256 is {now[:12]}..., and the run used {told['sha256'][:12]}... "
            f"To see what the change does, evaluate with -d {path}"
        )
    return Descriptions.load(path)
