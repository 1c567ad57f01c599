# The one definition of each check: people, hooks and CI call these targets.
.PHONY: help setup run race test test-all test-long test-versions test-other-versions packages lint format docs \
	wheel deb install uninstall writers chaos explore bench bench-quick screenshots clean

# The tests start thousands of processes, and each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
MAILMAN := .venv-mailman
# Two processes a core: most tests wait for a daemon or a sweep now and then.
PYTEST := $(VENV)/bin/python -m pytest -q -n 4 --dist worksteal

help:
	@echo "make setup     a virtual environment in $(VENV) (PYTHON=... to choose the interpreter)"
	@echo "make run       watch a small queue at work (ctrl-C ends it; RUN_SECONDS=20 ends by itself)"
	@echo "make race      the race of 2002: the old rule loses messages, this program none"
	@echo "make test      the tests            make test-all  with the slow ones (20 minutes)"
	@echo "make test-long what takes longer: all mutations and crashes (20 minutes)"
	@echo "make test-versions  the tests on every Python from 3.11 to 3.13 that is found"
	@echo "make packages  install the distribution's packages that tests need (as root; Debian)"
	@echo "make lint      ruff, mypy, imports  make format    let ruff put the layout right"
	@echo "make docs      the tables of docs/ that are made from the code"
	@echo "make explore   every interleaving and crash of the explorer's scenarios (20 minutes)"
	@echo "make writers   real writers, into a watched folder: when, early, twice; settle, markers"
	@echo "make chaos     threads, kills, reloads, two users: nothing lost (10 minutes; SECONDS=60)"
	@echo "make bench     how fast, beside the limit and its peers (15 minutes)   make bench-quick  rougher"
	@echo "make wheel     dist/*.whl           make deb       dist/*.deb, on Debian or Ubuntu"
	@echo "make install   into PREFIX=/usr/local (DESTDIR=... for a package)   make uninstall"
	@echo "make screenshots  pictures of the page at work, in .demo/screenshots (2 minutes)"
	@echo "make clean     remove what make made"

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

# Spread one by one: most of them start processes of their own, and one file has half of them.
test-all: test
	$(PYTEST) -n 3 -m "slow and not long"

# What does not fit into the half hour that a change waits for: every mutation, and the explorer.
test-long: setup
	$(PYTEST) -n 3 -m long

test-versions:
	@scripts/test_versions

# On the versions that are not the one of $(VENV): what depends on the interpreter. All of it on
# all of them is `make test-versions`.
OF_THE_INTERPRETER := tests/unit tests/mailman tests/arrive tests/handle tests/threads \
	tests/cli/test_main.py tests/cli/test_config.py tests/spool/test_entry.py \
	tests/daemon/test_signals.py tests/daemon/test_lifetime.py
test-other-versions: setup
	@scripts/test_versions --but \
		"$$($(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
		$(OF_THE_INTERPRETER)

# The distribution's packages whose programs the tests run; as root it installs what is missing.
packages:
	@scripts/install_packages

lint: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: setup
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

# Writes the generated tables and the manual pages anew, then checks every page against the code.
GENERATED := tests/cli/test_config.py tests/cli/test_handlers_page.py tests/unit/test_pages.py tests/unit/test_log.py \
	tests/web/test_exposition.py
docs: setup
	@WRITE_DOCUMENTS=1 $(VENV)/bin/python -m pytest -q -k "documents_tables or import_levels" $(GENERATED)
	@$(VENV)/bin/python scripts/man_pages.py
	@$(VENV)/bin/python -m pytest -q -k "document or pages" $(GENERATED) tests/scripts/test_man_pages.py

wheel: setup
	@rm -rf build
	@$(VENV)/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

# What is installed where, and the next steps: docs/install.md.
install:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/packages/install

uninstall:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/packages/uninstall

deb:
	@scripts/packages/deb

screenshots: setup
	@$(VENV)/bin/python scripts/screenshots.py .demo/screenshots

writers: setup
	@$(VENV)/bin/python scripts/real_writers

chaos: setup
	@$(VENV)/bin/python scripts/chaos $(if $(SEED),--seed $(SEED)) --seconds $(or $(SECONDS),600)

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
