# The one definition of each check: people, hooks and CI call these targets.
.PHONY: help setup run race test test-all test-versions lint format wheel explore bench bench-quick clean

VENV := .venv
MAILMAN := .venv-mailman
PYTEST := $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

help:
	@echo "make setup     a virtual environment in $(VENV) (PYTHON=... to choose the interpreter)"
	@echo "make run       watch a small queue at work (ctrl-C ends it; RUN_SECONDS=20 ends by itself)"
	@echo "make race      the race of 2002: the old rule loses messages, this program none"
	@echo "make test      the tests            make test-all  with the slow ones (20 minutes)"
	@echo "make test-versions  the tests on every Python from 3.11 to 3.13 that is found"
	@echo "make lint      ruff, mypy, imports  make format    let ruff put the layout right"
	@echo "make explore   every interleaving and crash of the explorer's scenarios (20 minutes)"
	@echo "make bench     how fast, beside the limit and its peers (15 minutes)   make bench-quick  rougher"
	@echo "make wheel     dist/*.whl           make clean     remove what make made"

setup: $(VENV)/.stamp

$(VENV)/.stamp: setup.cfg pyproject.toml scripts/make_venv
	@scripts/make_venv $(VENV) -e '.[test,lint]'

# Mailman 3 as a live writer, in an environment of its own: only the tests use it.
$(MAILMAN)/.stamp: tests/live/mailman3.txt scripts/make_venv
	@scripts/make_venv $(MAILMAN) --no-deps -r tests/live/mailman3.txt

run: setup
	@$(VENV)/bin/python scripts/demo.py

race: setup
	@$(VENV)/bin/python scripts/replay_seed_race.py

test: setup $(MAILMAN)/.stamp
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow

# A version that is not on this machine is said and left out; the live writers are the same for all.
test-versions:
	@for version in 3.11 3.12 3.13; do \
		if python$$version -c '' 2>/dev/null; then \
			PYTHON=python$$version scripts/make_venv .venv-$$version -e '.[test]' && \
			.venv-$$version/bin/python -m pytest -q -n 2 --dist loadfile -m "not slow" \
				--ignore tests/live --ignore tests/packaging || exit 1; \
		else echo "python$$version: not on this machine"; fi; \
	done

lint: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: setup
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

wheel: setup
	@rm -rf build
	@$(VENV)/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

explore: setup
	@$(VENV)/bin/python tests/crash/explore.py --jobs 2

# `bench` writes docs/benchmarks.md; `bench-quick` only prints.
BENCH := .venv-bench
$(BENCH)/.stamp: scripts/bench/peers.txt scripts/make_venv
	@scripts/make_venv $(BENCH) -r scripts/bench/peers.txt

bench: setup $(MAILMAN)/.stamp $(BENCH)/.stamp
	@$(VENV)/bin/python scripts/bench --save

bench-quick: setup $(MAILMAN)/.stamp $(BENCH)/.stamp
	@$(VENV)/bin/python scripts/bench --quick

clean:
	rm -rf $(VENV) $(VENV)-3.* $(MAILMAN) $(BENCH) .bench .demo build dist *.egg-info \
		.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find watcher scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
