# make run            all set-up, then the demo practice     make run CONFIG=path   a real configuration
# make test           all set-up, then every test            FULL=1 make test       the full counts
# make check          lint, types, house, core and flow      make sim | chaos | bench | house
SHELL := /bin/bash
PY := .venv/bin/python
CONFIG ?=
STORY ?=
PATH := $(PATH):/usr/sbin:/sbin

.PHONY: setup setup-run run test check lint house sim chaos bench
.DEFAULT_GOAL := check

setup:
	@tools/setup.sh test

setup-run:
	@tools/setup.sh run

run: setup-run
ifeq ($(CONFIG),)
	@$(PY) -m gateway demo $(if $(STORY),--story $(STORY))
else
	@$(PY) -m gateway run --config $(CONFIG)
endif

lint:
	$(PY) -m ruff check .
	$(PY) -m mypy gateway chaos tests

check: setup lint
	$(PY) -m pytest tests/test_house.py tests/core tests/flow

# One pytest, so that one line at the end counts what was skipped. House, core and flow come first.
test: setup lint
	$(PY) -m pytest tests/test_house.py tests/core tests/flow tests

# Sizes to look at; they never fail a build.
house: setup-run
	@$(PY) -m tests.kit.sizes
	$(PY) -m pytest tests/test_house.py tests/test_house_rules.py

sim: setup
	$(PY) -m pytest tests/sim

chaos: setup
	$(PY) -m chaos

# Every bench, file or package, one after the other with small counts; what they share is none. One
# whose figures miss their demands keeps no other from running, but make says so at the end.
BENCHES := $(notdir $(basename $(filter-out %/__init__.py %/__main__.py %/parts.py,\
	$(wildcard tests/bench/*.py)))) $(notdir $(patsubst %/__main__.py,%,\
	$(wildcard tests/bench/*/__main__.py)))
bench: setup
	@missed=; for each in $(BENCHES); do \
		echo "== $$each"; $(PY) -m tests.bench.$$each || missed="$$missed $$each"; done; \
		[ -z "$$missed" ] || { echo "not all measured or met:$$missed"; exit 1; }
