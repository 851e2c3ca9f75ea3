"""The notebook of the documentation runs from top to bottom, in a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_docs import needs_demo_models

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter packages
def test_the_notebook_runs_and_shows_a_table_for_each_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    needs_demo_models([cell.source for cell in notebook.cells])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for shown in ("classifier.predict", "classifier.explain", "described\n", "db.compare"):
        (cell, *_) = [cell for cell in code if (cell.source + "\n").splitlines(keepends=True)[-1].startswith(shown)]
        assert any("text/html" in output.get("data", {}) for output in cell.outputs), cell.source


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    import nbformat

    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell.source for cell in cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []
