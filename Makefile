# `make help` lists the commands; docs/commands.md has the same as plain commands.

PYTHON ?= python3
A ?= HEAD
B ?= workspace
IMAGES ?= 10000000
# Only if they are given to make: some systems set variables of these names.
ifneq ($(origin NAME),command line)
  NAME :=
endif
ifneq ($(origin LABELS),command line)
  LABELS :=
endif
ifneq ($(origin PATTERN),command line)
  PATTERN :=
endif
# The shell reads what a person gives from its environment, never as a part of a command, so that a
# value may hold any character. Without `value`, make would replace a $ in it. `override` also keeps
# the other variables as they are here.
override GIVEN := PYTHON FOLDER NAME LABELS PATTERN A B IMAGES SECTIONS GPU
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)
# DVC runs each stage as `python src/...`: the environment's Python must come first. CURDIR, because
# `abspath` takes a path with a space for two.
override PATH := $(CURDIR)/.venv/bin:$(value PATH)
export PATH
portable docs reruns bench bench-large: export PYTHONPATH := $(CURDIR)/src:$(CURDIR)/tests

.DEFAULT_GOAL := help
.PHONY: help setup run data-report photographs dataset recipe compare leaderboard app \
  check test-fast test test-slow portable format docs reruns bench bench-large lock

help: ## list the commands
	@awk -F ':.*## ' '/^##/ {print "\n" substr($$0, 4)} \
	  /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

## Start

setup: ## make the virtual environment from the locked requirements; GPU=1 for NVIDIA GPUs
	@"$$PYTHON" install.py $(if $(filter 1,$(GPU)),--gpu)

run: setup ## run the pipeline: only what changed runs again
	dvc repro
	@python src/summary.py

## Your own photographs

override OPTIONS = $(if $(NAME),--name="$$NAME") $(if $(LABELS),--labels="$$LABELS") \
  $(if $(PATTERN),--pattern="$$PATTERN")

data-report: setup ## look at the data before training: FOLDER=path/to/folder, NAME=flowers, or neither
	@python src/data_report.py $(OPTIONS) -- $(if $(FOLDER),"$$FOLDER")

photographs: setup ## train on a folder of photographs: make photographs FOLDER=path/to/folder
	@python src/photographs.py $(OPTIONS) -- "$$FOLDER"

dataset: setup ## only add a folder to the catalog: make dataset FOLDER=path/to/folder NAME=pets
	@python src/dataset.py $(OPTIONS) -- "$$FOLDER"

## Experiments

recipe: setup ## write the values of a recipe into params.yaml: make recipe run NAME=mnist_mlp
	@python src/recipe.py -- "$$NAME"

compare: setup ## compare two commits or experiments: make compare A=HEAD~1 B=HEAD
	@python src/compare.py --html comparison.html -- "$$A" "$$B"
	@echo "with pictures: comparison.html"

leaderboard: setup ## rank all experiments by validation accuracy
	@python src/leaderboard.py

## Use the network

app: setup ## open a page on this machine: drop an image or draw one, see its classes
	@python src/app.py

## Development

check: setup ## check language, spelling, lint, format and types: seconds
	@python tests/language.py
	codespell
	ruff check .
	ruff format --check .
	mypy

# One worker for each processor. The tests of a file stay together, because they share fixtures.
override PYTEST := python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-fast: setup ## run the tests that need neither TensorFlow nor DVC runs: 2 minutes
	$(PYTEST) -m "not tf and not e2e and not dask"

test: test-fast ## run all tests but the slow ones: 10 minutes on two cores
	$(PYTEST) -m "(tf or e2e or dask) and not slow"

test-slow: setup ## run slow tests that rarely fail, and the tests with random examples on more examples
	$(PYTEST) --hypothesis-profile many -m "slow or hypothesis"

portable: setup ## compare the bytes on three emulated processors: 6 minutes; needs qemu-x86_64
	python tests/portable.py

format: setup ## format the code
	ruff format .
	ruff check --fix .

docs: setup ## write the generated tables: docs/choices.md, recipes/README.md, recipes/effective.json
	python tests/choices.py
	@python src/recipe.py --generate

reruns: setup ## measure what each change re-runs, and write docs/reruns.md: a minute
	python tests/reruns.py

bench: setup ## measure speed and memory; needs DATASET_MIRROR; a part: SECTIONS="exact overhead"
	python benchmarks/bench.py -- "$$SECTIONS"

bench-large: setup ## measure memory and speed of preprocess with 10 million images: FOLDER=new/folder
	python benchmarks/large.py --images="$$IMAGES" -- "$$FOLDER"

# The groups of pyproject.toml that `make setup` installs: all but the optional ones.
override GROUPS := config arrays images remote digits charts nn transfer pipeline app dev
override LOCK := python -m uv pip compile pyproject.toml --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet

lock: setup ## lock the pinned dependencies again, after a change of pyproject.toml
	$(LOCK) $(GROUPS:%=--extra %) --output-file requirements.txt
	$(LOCK) --extra heic --constraint requirements.txt --output-file requirements-heic.txt
	$(LOCK) $(GROUPS:%=--extra %) --extra gpu --constraint requirements.txt \
	  --no-emit-package tensorflow-cpu --output-file requirements-gpu.txt
	$(LOCK) --extra setup --output-file requirements-setup.txt
	$(LOCK) --extra dask --constraint requirements.txt --output-file requirements-dask.txt
	$(LOCK) --extra s3 --constraint requirements.txt --output-file requirements-s3.txt
	$(LOCK) --extra s3 --extra moto --constraint requirements.txt --output-file requirements-moto.txt
	$(LOCK) --extra browser --constraint requirements.txt --output-file requirements-browser.txt
	$(LOCK) --extra decoders --constraint requirements.txt --output-file requirements-decoders.txt
