# The commands of descbench; `make` alone lists them. Each installs what it needs into .venv first.
#   make PYTHON=python3.12 demo    another Python (3.11 or newer)
#   make UV= demo                  plain venv and pip, even where uv is at hand

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow parity check format bench docs pictures methods-table demo-models

help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## Describe 40 invented birds, classify pictures by it, compare the methods
	@$(BIN)/descbench demo

test: .venv/.installed ## Run the tests, without the slow ones; without network, but for a browser that is missing
	@sh tests/browser.sh
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: .venv/.installed ## Run the slow tests, and the properties on examples that are drawn anew
	@sh tests/browser.sh
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "hypothesis and not slow" --hypothesis-profile=drawn

parity: .venv/.installed ## Compare every method with what its authors' code computed, a line a golden file
	HF_HUB_OFFLINE=1 $(BIN)/python tests/parity.py

check: .venv/.installed ## Lint, format and type checks, and the test of the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

format: .venv/.installed ## Sort imports, mend what can be mended, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed ## Run every benchmark
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: .venv/.documented ## Build the documentation as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "build/site/index.html"

pictures: .venv/.installed ## Make the report's pictures in docs/ anew, from the demo's birds (two minutes)
	@HF_HUB_OFFLINE=1 $(BIN)/python tests/report_pictures.py

methods-table: .venv/.installed ## Run every method and its controls on the demo's birds, into docs/methods-table.md
	$(BIN)/descbench demo --every --into docs/methods-table.md

demo-models: .venv/.installed ## Train the demo's two small models again (up to an hour on 2 cores)
	$(BIN)/python -m descbench.demo.train_clip
	$(BIN)/python -m descbench.demo.train_llm

# Bytecode beforehand: each command would else compile what it imports.
# Written last: an installation that failed half way is taken up again by the next call.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "descbench needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@set -e; python=$$($(PYTHON) -c 'import sys; print(sys.executable)'); \
	if [ -n "$(UV)" ] && $(UV) --version >/dev/null 2>&1; then \
	  echo "Installing descbench and its packages into .venv with uv: about 6 GB, once; a minute or more." >&2; \
	  [ -x $(BIN)/python ] || $(UV) venv --quiet --clear --python "$$python" .venv; \
	  $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'; \
	else \
	  echo "Installing descbench and its packages into .venv with pip: about 6 GB, once; some minutes." >&2; \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null 2>&1 \
	    || "$$python" -m venv --clear .venv; \
	  $(BIN)/python -m pip install --quiet --editable '.[dev]'; \
	fi
	@touch $@

.venv/.documented: .venv/.installed
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null 2>&1 || true
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then $(BIN)/python -m pip install --quiet --editable '.[docs]'; \
	else $(UV) pip install --quiet --python $(BIN)/python --editable '.[docs]'; fi
	@touch $@
