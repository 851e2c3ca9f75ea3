"""How often a heatmap points at the part that its text names, on pictures of the aviary.

    python benchmarks/pointing.py [PICTURES] [ENCODER]

Prints by trait and together: maps less the mean of the trait's other values, maps alone, and the shuffled control.
Exits with 1 where the demo's encoder hits less than the written-down share.
"""

from __future__ import annotations

import sys
import time

import descbench as db
from descbench.demo.pointing import Points, pointing, total

WANTED = 0.6  # of all maps
UNREAD = ("beak", "crest")  # of the demo's CLIP: it names their values hardly more often than chance


def main() -> int:
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    spec = sys.argv[2] if len(sys.argv) > 2 else "demo"
    encoder = db.encoder(spec)
    began = time.monotonic()
    best = pointing(encoder, pictures)
    print(f"{pictures} pictures of the aviary, {spec}, {(time.monotonic() - began) / pictures:.2f} s each")
    for trait, points in best.items():
        print(f"  {trait:18s} {points}")
    read = sum((points for trait, points in best.items() if trait not in UNREAD), Points())
    alone, shuffled = (total(pointing(encoder, pictures, **how)) for how in ({"rivals": False}, {"shuffled": True}))
    everything = total(best)
    print(f"  {'all':18s} {everything}")
    print(f"  {'all but ' + ', '.join(UNREAD):18s} {read}")
    print(f"  {'without rivals':18s} {alone}")
    print(f"  {'shuffled':18s} {shuffled}")
    return int(spec == "demo" and everything.near < WANTED * everything.pairs)


if __name__ == "__main__":
    sys.exit(main())
