"""`python -m descbench` is the command `descbench`."""

from descbench.cli import main

if __name__ == "__main__":
    main()
