# make help lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready
HAS_GPU := $(shell command -v nvidia-smi)
export SECATEUR_HOME ?= $(CURDIR)/.secateur
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo ui test pytest nightly lint types language-model docs wheel bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## install into .venv

# The pip that Python 3.11 brings takes several times as long to choose among releases. Of 25,000 modules that are
# installed few are ever imported: the import at the end compiles and keeps what every command loads, later ones the rest.
# faiss-cpu and faiss-gpu hold the same module: where there is a GPU, the one replaces the other.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo "make creates $(VENV): seconds"
	@$(PYTHON) -m venv $(VENV)
	@echo "pip installs its newest release there: seconds"
	@$(RUN)/pip install --quiet 'pip>=26'
	@echo "pip downloads and installs secateur and its packages: one to five minutes, without further output"
	@$(RUN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
ifneq ($(HAS_GPU),)
	@echo "pip replaces faiss-cpu by faiss-gpu: up to a minute"
	@$(RUN)/pip uninstall --quiet --yes faiss-cpu
	@$(RUN)/pip install --quiet --constraint constraints.txt 'faiss-gpu>=1.15'
endif
	@echo "Python compiles what every command imports: up to a minute"
	@$(RUN)/python -W ignore -c 'import secateur.pipelines.definitions, accelerate, datasets, sklearn, transformers'
	@touch $@
	@echo "secateur is installed: source $(VENV)/bin/activate"

demo: $(READY) ## prune the handwritten digits and compare with random
	$(RUN)/secateur run digits

ui: $(READY) ## the Dagster UI at http://localhost:3000
	$(RUN)/secateur ui --examples

# The types are checked, which takes one core, while the tests begin; whatever fails, test fails.
test: $(READY) ## everything that decides whether a change lands
	@$(MAKE) --no-print-directory --jobs=2 lint types pytest

pytest: $(READY)
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m 'not nightly' -n 2 --dist worksteal

# 500 kills of commands go on where the last night ended (build/kills-*.jsonl, anew where the product has changed); a night of them ends after
# SECATEUR_KILL_MINUTES, 60 if unset.
nightly: $(READY) ## the tests that `make test` leaves out, and whether the tests notice changes of the product; hours
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m nightly
	$(RUN)/python tests/support/mutation.py --seed $$(date +%G%V) --minutes 180

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(READY)
	$(RUN)/mypy

language-model: $(READY) ## SmolLM2-135M, dequantised from 4 bits, into build/language-model
	$(RUN)/python tests/support/language_model.py

docs: $(READY) ## the documentation as a site in build/site; links to other hosts are listed, not fetched
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict
	@grep -rhoE 'https://[^][ )>"`]+' docs README.md --include='*.md' | sort -u > build/external-links.txt
	@echo "build/external-links.txt lists links to other hosts. Read the site, with its search, at http://127.0.0.1:8000:"
	@echo "  $(RUN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000"

wheel: $(READY) ## build the wheel into dist/
	$(RUN)/pip wheel --quiet --no-deps --wheel-dir dist .

bench: $(READY) ## run every benchmark
	@for file in benchmarks/*.py; do echo "== $$file"; $(RUN)/python $$file || exit 1; done

clean: ## remove what was built and what was run
	rm -rf build dist *.egg-info .secateur .mypy_cache .ruff_cache .pytest_cache
