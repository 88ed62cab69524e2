# `make hub` and `make test` do all their own set-up. Everything they make is under .venv and .cache.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PORT ?= 8000
# Four groups of tests at a time: most of a test is waiting for an engine, a hub or a browser.
WORKERS ?= 4
export PORT
PY := .venv/bin/python
# Tools that were installed for this checkout come first.
RUN := . scripts/lib.sh &&

.PHONY: help hub quick test test-hub5 faults nightly mutants unit lint structure format types check screenshots bench \
	images venv engine proxy browser compose-up compose-down clean clean-sessions

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

hub: engine proxy ## Run the hub at http://127.0.0.1:8000 (or PORT=...), with demo accounts
	@$(PY) scripts/build_images.py lab
	@$(RUN) exec python scripts/run_hub.py

test: engine proxy browser images ## Run all tests; PYTEST_ARGS="-k name" chooses, WORKERS=0 runs one at a time
	@$(RUN) python -m pytest tests -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-hub5: engine proxy browser images ## Run the tests of a session against JupyterHub 5.5 too
	@scripts/setup-hub5
	@$(RUN) export DS01_LAB_IMAGE=ds01/lab-hub5:latest DS01_TEST_HUB_PYTHON=$$ROOT/.cache/hub5/bin/python && \
	    $$DS01_TEST_HUB_PYTHON scripts/build_images.py lab && \
	    python -m pytest tests/hub/test_session.py tests/hub/test_refusals.py tests/browser/test_journeys.py \
	    $(PYTEST_ARGS)

nightly: engine proxy browser images ## The long runs: 100,000 random steps of the claim, a full class
	@$(RUN) DS01_STEPS=100000 python -m pytest tests/unit/placement/test_machine.py
	@$(RUN) python -m pytest tests -m nightly
	@$(RUN) python scripts/mutants.py
	@$(RUN) python -m tests.faults --seed $$(date +%j) --minutes 60 --quiet

faults: engine proxy ## Kill, stop and fill up everything for five minutes, and check that every promise holds
	@$(RUN) python -m pytest tests/faults -m "faults or not faults" $(PYTEST_ARGS)

mutants: venv ## Change the decisions one thing at a time and see which change no test notices
	@$(RUN) python scripts/mutants.py

quick: venv ## Run the tests that need nothing but Python, one worker a core (about a minute)
	@$(RUN) HYPOTHESIS_PROFILE=quick python -m pytest tests/unit $(wildcard tests/contract) \
	    -m "not engine and not nightly and not faults" -n auto --dist loadfile -q $(PYTEST_ARGS)

unit: venv ## Run the tests that need nothing but Python, in one process
	@$(RUN) python -m pytest tests/unit $(PYTEST_ARGS)

lint: venv ## Check style, what may import what, and that every import is declared
	@$(RUN) ruff check . && ruff format --check . && lint-imports && deptry .
	@$(RUN) python scripts/structure.py

structure: venv ## Print the figures of the package's structure beside their bounds and targets
	@$(RUN) python scripts/structure.py

format: venv ## Put style right where that can be done
	@$(RUN) ruff check --fix . ; ruff format .

types: venv ## Check types
	@$(RUN) mypy

check: lint types test ## All of lint, types and test

screenshots: engine proxy browser images ## Make the pictures of the documentation again
	@$(RUN) python scripts/screenshots.py

bench: engine proxy images ## Compare start and stop times with bare DockerSpawner
	@$(RUN) for file in benchmarks/bench_*.py; do python $$file || exit 1; done

venv: ## Make .venv with everything that is needed
	@scripts/setup-venv

engine: venv
	@scripts/setup-engine

proxy:
	@scripts/setup-node-proxy

browser: venv
	@scripts/setup-browser

images: engine ## Build the notebook image and the image of the engine tests
	@$(PY) scripts/build_images.py lab busybox

compose-up: engine images ## Run the hub in containers that come back after a reboot
	@scripts/compose up

compose-down: ## Stop those containers; sessions and workspaces stay
	@scripts/compose down

clean: ## Remove what was built here, except the demo's workspaces and accounts
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .cache/node .cache/hub5 .cache/browsers .cache/chromium .cache/log.*

clean-sessions: ## Remove the demo's session containers (workspaces stay)
	@$(RUN) python scripts/clean_sessions.py
