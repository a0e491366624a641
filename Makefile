# `make` alone lists what can be done. Every target sets up what it needs: Python >= 3.11 with venv is enough.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPED := .venv/developed
PROTOS := $(wildcard src/dragonfly/wire/proto/dragonfly/wire/pb/*.proto)

.DEFAULT_GOAL := help
.PHONY: help demo test check sim proto bench pins docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## a real swarm on this machine: 1 GiB to four peers at once (DEMO_SIZE=256MiB changes it)
	@$(BIN)/python -m demo

test: $(DEVELOPED) ## every test, also those that start whole clusters
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(DEVELOPED) ## style, types, floors, and the tests that need no whole cluster
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -q -n 2 -m "not slow"

sim: $(INSTALLED) ## swarms of hundreds of peers on a virtual clock, against the bound of physics
	@$(BIN)/python -m dragonfly.sim

proto: $(INSTALLED) ## compile src/dragonfly/wire/proto into dragonfly.wire.pb
	@$(BIN)/python hatch_build.py

bench: $(INSTALLED) ## what it costs and reaches, into docs/performance.md (ONLY=one-hop, BENCH_SIZE=1GiB, BENCH_ROUNDS=3)
	@$(BIN)/python -m bench

docs: $(INSTALLED) ## write the parts of docs/ and ARCHITECTURE.md that come from the code
	@$(BIN)/python -m docs.generate

pins: $(DEVELOPED) ## resolve requirements/*.txt anew from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv lock --upgrade --quiet
	@$(BIN)/uv export --quiet --no-emit-project --all-extras --no-default-groups --group build \
		--format requirements-txt --no-annotate --no-header --output-file requirements/run.txt
	@$(BIN)/uv export --quiet --no-emit-project --all-extras --group build --group dev \
		--format requirements-txt --no-annotate --no-header --output-file requirements/dev.txt

clean: ## remove what these targets made
	@rm -rf .venv src/dragonfly/wire/pb .mypy_cache .ruff_cache .hypothesis bench/results

# A stamp file says that the environment holds the pins it was made from.
$(INSTALLED): requirements/run.txt pyproject.toml hatch_build.py $(PROTOS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dragonfly needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPED): $(INSTALLED) requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python hatch_build.py
	@touch $@
