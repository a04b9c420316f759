# `make help` lists the commands.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# DVC runs each stage as `python src/...`: the environment's Python must come first.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run photographs dataset recipe compare leaderboard app test test-fast bench reruns docs check format lock

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(BIN)/.locked ## make the virtual environment from the locked requirements

$(BIN)/.locked: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: $(PYTHON) is Python %d.%d; 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	@touch $@

run: setup ## run the pipeline: only what changed runs again
	dvc repro
	@python src/summary.py

# The shell reads FOLDER and NAME from its environment, so that they may hold any character; without
# `value`, make would replace a $ in FOLDER. NAME counts only if it is given to make: some systems set
# a variable of this name.
override FOLDER := $(value FOLDER)
export FOLDER
NAME_OPTION = $(if $(filter command line,$(origin NAME)),--name "$$NAME")

photographs: setup ## train on your own folder of photographs: make photographs FOLDER=path/to/folder
	@python src/photographs.py "$$FOLDER" $(NAME_OPTION)

dataset: setup ## only add a folder of photographs to the catalog: make dataset FOLDER=... NAME=...
	@python src/dataset.py "$$FOLDER" $(NAME_OPTION)

recipe: setup ## write the values of recipes/NAME.yaml into params.yaml: make recipe run NAME=mnist_mlp
	@python src/recipe.py '$(NAME)'

A ?= HEAD
B ?= workspace
compare: setup ## is B better than A, and is it chance: make compare A=HEAD~1 B=HEAD
	@python src/compare.py '$(A)' '$(B)' --html comparison.html
	@echo "with pictures: comparison.html"

leaderboard: setup ## list the commit and all experiments, the best first by validation accuracy
	@python src/leaderboard.py

app: setup ## a page on this machine: drop an image or draw one, see its classes
	@python src/app.py

test: test-fast ## run all tests
	python -m pytest -m "tf or e2e"

test-fast: setup ## run the tests that need neither TensorFlow nor DVC runs
	python -m pytest -m "not tf and not e2e"

bench: setup ## measure speed and memory; needs DATASET_MIRROR, writes benchmarks/results.md
	PYTHONPATH=$(abspath src) python benchmarks/bench.py

reruns: setup ## measure what each change re-runs, writes docs/reruns.md
	PYTHONPATH=$(abspath src):$(abspath tests) python tests/reruns.py

docs: setup ## write the generated tables: docs/choices.md, recipes/README.md, recipes/effective.json
	PYTHONPATH=$(abspath src):$(abspath tests) python tests/choices.py
	@python src/recipe.py --generate

check: setup ## lint, check format and types
	ruff check .
	ruff format --check .
	mypy

format: setup ## format the code
	ruff format .
	ruff check --fix .

# The groups of pyproject.toml that `make setup` installs: all but the optional ones.
GROUPS := config arrays images digits charts nn transfer pipeline app dev
LOCK = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --quiet

lock: ## lock the pinned dependencies again (needs uv)
	$(LOCK) $(GROUPS:%=--extra %) --output-file requirements.txt
	$(LOCK) --extra heic --constraint requirements.txt --output-file requirements-heic.txt
