"""A model in transformers' format: a folder here or an id of the hub, which commit that is, and what goes wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from descbench.errors import AccessError, InputError, SpecError

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Pretrained:
    """The model that `given` names: a folder, or `ORG/NAME[@REVISION]` of the hub. Making one asks nobody.

    `files` says what such a folder has beside its config and weights, `example` is an id: both stand in the
    `InputError` for what can be neither a folder nor an id. Raises `SpecError` where nothing is given.
    """

    given: str
    files: str
    example: str

    def __post_init__(self) -> None:
        if not self.given:
            raise SpecError("'transformers:' names no model. Write transformers:FOLDER or transformers:ORG/NAME.")
        local = Path(self.given).expanduser()
        looks_local = self.given.startswith((".", "/", "~")) or not _ID.fullmatch(self.given)
        if not local.is_dir() and (local.exists() or looks_local):
            raise InputError(
                f"no model folder {self.given!r}. Give a folder in transformers' format (config.json, safetensors, "
                f"{self.files}), or an id of the hub such as {self.example}."
            )

    @cached_property
    def folder(self) -> Path | None:
        """Where it lies; None for an id of the hub."""
        local = Path(self.given).expanduser()
        return local if local.is_dir() else None

    @cached_property
    def revision(self) -> tuple[str, str]:
        """The hub's id and the commit of it: that of the local copy where there is one, else the hub is asked once.

        Raises `AccessError` where the hub does not give it.
        """
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        model, _, revision = self.given.partition("@")
        try:
            cached = try_to_load_from_cache(model, "config.json", revision=revision or None)
            if not isinstance(cached, str):
                cached = hf_hub_download(model, "config.json", revision=revision or None)
        except HFValidationError as error:
            raise InputError(f"{self.given!r} is neither a folder nor an id of the hub: {line(error)}") from None
        except (HfHubHTTPError, OSError) as error:
            raise self.unreachable(error) from None
        return model, Path(cached).parent.name  # snapshots/COMMIT/config.json

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of `from_pretrained`."""
        if self.folder:
            return {"pretrained_model_name_or_path": str(self.folder), "local_files_only": True}
        model, revision = self.revision
        return {"pretrained_model_name_or_path": model, "revision": revision}

    def unreachable(self, error: Exception) -> AccessError:
        """What to say where an id cannot be had."""
        return AccessError(
            f"no model {self.given!r}: it is no folder here, and the hub does not give it: {line(error)} "
            "Check the id, and for a private model `hf auth login`; without network give a downloaded folder."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars and notes; its settings are put back."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


def line(error: Exception) -> str:
    """The first sentence or so of another library's error."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " ..."
    return text if text.endswith((".", "...")) else f"{text}."
