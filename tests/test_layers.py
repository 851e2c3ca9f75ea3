"""A module imports from rows below its own, or from its own package: checked over the source, functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import descbench

ROWS = [
    "errors progress",
    "vocabulary prompts plugins arrays statistics power published transport salvage files markup devices hub",
    "predictions descriptions texts parsing confidence confusion groups runs taxonomy",
    "formats scoring methods lint edits explanation",
    "store selection followup lengths",
    "llms encoders datasets decoding",
    "generation embedding calibration",
    "classifier cluster heatmaps",
    "evaluation",
    "spec bulk comparison worth whatif",
    "demo testing report",
    "cli",
]
ROW = {room: row for row, rooms in enumerate(ROWS) for room in rooms.split()}
DEMO = {"encoders/demo.py", "datasets/demo.py", "llms/demo.py"}  # the aviary plugs into these tables by name
SOURCE = Path(descbench.__file__).parent


def imported(node: ast.AST) -> list[str]:
    """The rooms of descbench that are imported here or below, without what is only there for the type checker."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return [room for child in node.orelse for room in imported(child)]
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = (
            [f"{node.module}.{alias.name}" for alias in node.names] if not node.level else [f"descbench.{node.module}"]
        )
    else:
        return [room for child in ast.iter_child_nodes(node) for room in imported(child)]
    return [name.split(".")[1] for name in names if name.startswith("descbench.")]


def test_no_module_imports_from_its_own_row_or_above() -> None:
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE)
        room = file.parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        for other in imported(ast.parse(path.read_text(encoding="utf-8"))):
            plugged = other == "demo" and file.as_posix() in DEMO
            if other != room and not plugged and other in ROW and ROW[other] >= ROW[room]:
                wrong.append(f"{file} (row {ROW[room]}) imports {other} (row {ROW[other]})")
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_row() -> None:
    rooms = {
        path.name.removesuffix(".py")
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} <= set(ROW)
