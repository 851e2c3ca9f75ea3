"""What `make parity` runs: the tests against the authors' results, and then how near each golden file was.

Differences are of scores, over all orders of the classes that are tried. A tie is an answer that is not compared, since
the two best scores are less than 1e-6 apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Lines:
    """Prints a line for each golden file when the tests have run."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        seen: dict[str, list[float]] = sys.modules["test_golden"].SEEN
        for name, (largest, ties, answers) in sorted(seen.items()):
            terminalreporter.write_line(
                f"{name:<36} largest difference {largest:.1e}, ties {ties:.0f} of {answers:.0f}"
            )


def main() -> int:
    golden = HERE.parents[1] / "shared" / "data" / "golden"
    if not golden.is_dir():
        sys.stderr.write("make parity needs the golden files, which are no part of the project; nothing was compared\n")
        return 0
    ended = pytest.main([str(HERE / "test_golden.py"), *sys.argv[1:]], plugins=[Lines()])
    compared = set(sys.modules["test_golden"].SEEN)
    left = sorted({path.stem for path in golden.glob("*.npz")} - compared)
    if left:
        sys.stderr.write(f"not compared: {', '.join(left)}\n")
    return int(ended) or bool(left and not sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
