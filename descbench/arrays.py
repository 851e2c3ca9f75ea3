"""Feature matrices: read from npz or safetensors without ever unpickling, and every row checked before it is used."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from descbench.errors import InputError, listed

Rows = npt.NDArray[np.float32]


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a npz or safetensors file by name; safetensors keep lists of texts as JSON in their metadata.

    Raises `InputError` when the file is missing, damaged, of another kind, or holds pickled objects.
    """
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}. Give the path of a .npz or .safetensors file.")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path)
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as named arrays: {_line(error)}. "
            "What would do: a .npz (numpy.savez, no object arrays) or a .safetensors file."
        ) from error


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it is one nameless array")
        return {key: found[key] for key in found.files}


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            texts = {key: json.loads(text) for key, text in (file.metadata() or {}).items() if text.startswith("[")}
    except SafetensorError as error:
        raise ValueError(_line(error)) from error
    return {key: np.array(value) for key, value in texts.items()} | found


def pick(arrays: dict[str, npt.NDArray[Any]], path: Path, *keys: str) -> npt.NDArray[Any]:
    """The array under the first of `keys` that the file has. Raises `InputError` when it has none of them."""
    for key in keys:
        if key in arrays:
            return arrays[key]
    wanted = " or ".join(map(repr, keys))
    raise InputError(f"{str(path)!r} has no array {wanted}; it has: {listed(map(repr, arrays)) or 'nothing'}.")


def check_rows(rows: npt.ArrayLike, ids: Sequence[str], where: str) -> Rows:
    """`rows` as float32, one for each of `ids`: (N, D), or (N, V, D) with V views of each that are kept apart.

    `where` (a file, an encoder) opens the message. Raises `InputError` for another shape, and for a row that holds NaN
    or infinity or is all zero (or has such a view), which it names.
    """
    if hasattr(rows, "detach"):  # a torch tensor, wherever it lies
        rows = rows.detach().float().cpu().numpy()
    given = np.asarray(rows)
    shaped = given.ndim == 2 or (given.ndim == 3 and given.shape[1] > 0)
    if not shaped or len(given) != len(ids) or not np.issubdtype(given.dtype, np.floating):
        raise InputError(
            f"{where}: the features are {given.dtype} of shape {given.shape}; "
            f"what would do: floats of shape ({len(ids)}, D), one row for each of {len(ids)}."
        )
    with np.errstate(over="ignore"):
        checked: Rows = given.astype(np.float32)  # (N, D) or (N, V, D)
    finite = np.isfinite(checked).all(axis=tuple(range(1, given.ndim)))  # (N,)
    lengths = np.abs(checked).max(axis=-1, initial=0).reshape(len(checked), -1 if len(checked) else 1)  # (N, V)
    empty = lengths.min(axis=1) == 0  # (N,)
    for bad, what in ((~finite, "holds NaN or infinity"), (finite & empty, "is all zero")):
        if bad.any():
            first = int(bad.argmax())
            raise InputError(
                f"{where}: row {first} ({ids[first]!r}) {what}, and {int(bad.sum())} of {len(ids)} rows do. "
                "Compute these features again, or leave the rows out."
            )
    return checked


def unit_rows(rows: npt.ArrayLike, ids: Sequence[str], where: str) -> Rows:
    """`check_rows`, then every row (or view of it) scaled to length 1."""
    checked = check_rows(rows, ids, where)
    lengths = np.linalg.norm(checked.astype(np.float64), axis=-1, keepdims=True)
    scaled: Rows = (checked / lengths).astype(np.float32)
    return scaled


def _line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
