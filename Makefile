# `make run`, `make test` and `make docs` set everything up first. They need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
# Tests begin hundreds of processes, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
STAMP := .venv/.installed

.PHONY: run test slow-test long-test slurm-test release matrix lint docs bench same lock clean

run: $(STAMP)
	$(BIN)/python run.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What takes many seconds each.
slow-test: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal

# What takes half a minute or more each: the commands of every page, notebooks, tables of the experiments. Half an hour.
long-test: $(STAMP)
	$(BIN)/python -m pytest -m long -n 2 --dist worksteal

# Starts munge and Slurm on this machine, as root; needs Debian's slurm-wlm and munge.
slurm-test: $(STAMP)
	$(BIN)/python -m pytest -m slurm tests/cluster

# Sdist and wheel, the wheel installed in an empty environment and used outside the checkout.
release: $(STAMP)
	.ci/release

# The suite on the lowest allowed and the newest versions, and on Python 3.12 and 3.13 where they can be had; half an hour.
matrix: $(STAMP)
	.ci/matrix $(ONLY)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import_linter

# docs/_build/site: pages, notebooks executed, and the explorer of a run; no network. index.html leads to the first page.
docs: $(STAMP)
	rm -rf docs/_build
	$(BIN)/python run.py hydra.run.dir=docs/_build/shapes logger=none features.progress=false
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . docs/_build/site
	cp -r docs/_build/shapes/explorer docs/_build/shapes/report.html docs/_build/site
	@echo "open docs/_build/site/index.html"

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Whether this checkout and another write the same results: make same BEFORE=DIR [ONLY=part of a line's name].
same: $(STAMP)
	$(BIN)/python -m benchmarks same --before "$(BEFORE)" --only "$(ONLY)"

# Exact versions from requirements.lock; compiled once here, because imports of torch and timm take thrice as long uncompiled.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --extra dev --no-emit-package cd-exp --python-version 3.11 --no-header --generate-hashes --upgrade --output-file requirements.lock

clean:
	rm -rf .venv
