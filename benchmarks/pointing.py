"""How often a heatmap points at the part that its text names, on pictures of the aviary.

    python benchmarks/pointing.py [PICTURES] [ENCODER]

Prints by trait the maps that `explain --heatmap` draws, then all kinds of maps together, with chance.
Exits with 1 where the demo's encoder hits less than the written-down share.
"""

from __future__ import annotations

import sys
import time

import descbench as db
from descbench.demo.pointing import Points, pointing, total

WANTED = 0.6  # of all traits
UNREAD = ("beak", "crest")  # of the demo's CLIP: it names their values hardly more often than chance


def main() -> int:
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    spec = sys.argv[2] if len(sys.argv) > 2 else "demo"
    encoder = db.encoder(spec)
    began = time.monotonic()
    found = pointing(encoder, pictures)
    print(f"{pictures} pictures of the aviary, {spec}, {(time.monotonic() - began) / pictures:.2f} s each")
    for trait, points in found["each trait"].items():
        print(f"  {trait:22s} {points}")
    for kind, by_trait in found.items():
        print(f"  {kind:22s} {total(by_trait)}")
    read = sum((points for trait, points in found["each trait"].items() if trait not in UNREAD), Points())
    print(f"  {'all but ' + ', '.join(UNREAD):22s} {read}")
    every = total(found["each trait"])
    return int(spec == "demo" and every.near < WANTED * every.pairs)


if __name__ == "__main__":
    sys.exit(main())
