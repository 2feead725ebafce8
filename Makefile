# make help lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready
HAS_GPU := $(shell command -v nvidia-smi)
export SECATEUR_HOME ?= $(CURDIR)/.secateur

.PHONY: help setup demo ui test nightly lint types docs wheel bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## install into .venv

# faiss-cpu and faiss-gpu hold the same module: where there is a GPU, the one replaces the other.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --constraint constraints.txt torch
	$(RUN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
ifneq ($(HAS_GPU),)
	$(RUN)/pip uninstall --quiet --yes faiss-cpu
	$(RUN)/pip install --quiet --constraint constraints.txt 'faiss-gpu>=1.15'
endif
	@touch $@

demo: $(READY) ## prune the handwritten digits and compare with random
	$(RUN)/secateur run digits

ui: $(READY) ## the Dagster UI at http://localhost:3000
	$(RUN)/secateur ui

test: $(READY) lint types ## everything that decides whether a change lands
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m 'not nightly' -n 2 --dist worksteal

nightly: $(READY) ## the tests that `make test` leaves out: minutes each, and a download of every dependency
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m nightly

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

types: $(READY)
	$(RUN)/mypy

docs: $(READY) ## the documentation as a site in build/site; links to other hosts are listed, not fetched
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict
	@grep -rhoE 'https://[^][ )>"`]+' docs README.md --include='*.md' | sort -u > build/external-links.txt
	@echo "build/site/index.html, build/external-links.txt"

wheel: $(READY) ## build the wheel into dist/
	$(RUN)/pip wheel --quiet --no-deps --wheel-dir dist .

bench: $(READY) ## run every benchmark
	@for file in benchmarks/*.py; do echo "== $$file"; $(RUN)/python $$file || exit 1; done

clean: ## remove what was built and what was run
	rm -rf build dist *.egg-info .secateur .mypy_cache .ruff_cache .pytest_cache
