"""For `make docs`: pages that lie outside of docs/ become pages of the site too, and links follow them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

TOP = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "DESIGN.md": "design.md",
    "CHANGELOG.md": "changelog.md",
    "prompts/README.md": "prompts/README.md",
    "cache/README.md": "cache.md",
    "benchmarks/README.md": "benchmarks/README.md",
}
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?P<part>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The notebook runs where nobody sees a bar move: a warning of a missing widget for it is not part of the page."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
    return config


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(TOP / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links are written as they work in the repository; here a page may lie elsewhere, and some files are no page."""
    here = {there: source for source, there in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        target = normpath(f"{dirname(here) or '.'}/{link['target']}")
        if target not in PAGES and not target.startswith("docs/"):
            return link["text"]  # a file that is no page, as the licence
        there = relpath(PAGES.get(target, target.removeprefix("docs/")), dirname(page.file.src_uri) or ".")
        return f"{link['mark']}[{link['text']}]({there}{link['part'] or ''})"

    return LINK.sub(moved, markdown)
