"""The pictures of a report in docs/: `python tests/report_pictures.py` makes them anew, from the demo's birds.

It takes two minutes, a Chromium, and no network. Nothing else of the documentation has to be made by hand.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import Browser, Page
from PIL import Image

import descbench as db

DOCS = Path(__file__).parents[1] / "docs"
WIDE, PHONE = 1000, 390
SHOWN = ["li:not([hidden])"] * 4  # of the answers that are filtered: one that is open, and a row


def report(folder: Path, n: int = 600) -> Path:
    """A report of `n` of the demo's birds, whose descriptions a person has edited in two places."""
    name, follow_up = "birds.desc.json", "cascade(dclip, differential, k=5)"

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "descbench", *arguments]
        environment = os.environ | {"DESCBENCH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    run("generate", "demo", "--domain", "birds", "--llm", "demo", "-o", name)
    told = db.Descriptions.load(folder / name)
    others = told.classes[0][1:]
    by_hand = {0: [*others, "a purple head with spikes"], 16: [*told.classes[16], "a black cap"]}
    told.merged(db.Descriptions(by_hand, names=told.names)).save(folder / name)
    methods = ("-m", "dclip", "-m", "cupl", "-m", follow_up)
    run(
        "evaluate",
        f"demo:n={n}",
        "-d",
        name,
        "--llm",
        "demo",
        *methods,
        "--controls",
        "--encoder",
        "demo",
        "-o",
        "runs",
    )
    run("report", "runs", "-o", "report.html")
    return folder / "report.html"


def take(path: Path, into: Path) -> None:
    """Write the pictures of a report into a folder."""
    with Browser() as browser:
        page = browser.open(path, wide=WIDE)
        _part(page, into / "report-results.png", "body", "#differences")
        _part(page, into / "report-confused.png", "#confused", "#classes")
        kind = "document.getElementById('gallery-kind')"
        page.run(f"{kind}.value = 'changed'; {kind}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        page.run("document.querySelector('#gallery > li:not([hidden]) details').open = true")
        _part(page, into / "report-answers.png", "#answers", " ~ ".join(["#gallery > li:not([hidden])", *SHOWN]))
        page.run("document.querySelector('.by-class details:has(.edited)').open = true")
        _part(page, into / "report-descriptions.png", "#descriptions", ".by-class details:has(.edited) ~ details")
        _part(page, into / "report-confidence.png", "#confidence", "#controls")
        _part(page, into / "report-controls.png", "#controls", "#controls ~ h3 ~ h3")
        phone = browser.open(path, wide=PHONE, scheme="dark")
        _part(phone, into / "report-phone.png", "body", "#differences")


def _part(page: Page, path: Path, first: str, after: str) -> None:
    """A picture of the page from one element to where another one begins."""
    top, bottom = (
        page.run(f"(e => e.getBoundingClientRect().top + scrollY)(document.querySelector({selector!r}))")
        for selector in (first, after)
    )
    page.picture(path, max(top - 12, 0), bottom - 16)
    with Image.open(io.BytesIO(path.read_bytes())) as shot:
        whole = shot.convert("RGB")
    few = whole.quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
    )  # a third of the size
    few.save(path, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        take(report(Path(folder)), DOCS)
