# Every target sets up .venv by itself when it is missing or stale: only Python >= 3.11 (with pip and venv) and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test lint check samples bench fuzz lock clean venv venv-dev

run: venv ## the Talk screen on the built-in lab; without a terminal: play the exercise and print the labelled capture
	@$(BIN)/wiretalk $(ARGS)

test: venv-dev ## the test suite, with branch coverage of capture/
	@$(BIN)/python -bb -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage report

lint: venv-dev ## format, lint, types, import fences
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

check: lint test ## everything that must hold before a commit

samples: venv-dev ## make samples/ again from the lab
	@$(BIN)/python -m samples.make $(ARGS)

bench: venv-dev ## ratios against peers in the same run
	@$(BIN)/python -m bench $(ARGS)

fuzz: venv-dev ## throw octets at readers, decoder, streams and dialogues: ten minutes, or ARGS="--minutes 60"
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock: venv-dev ## pin the versions anew
	@$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --extra build -o requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --extra build --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

venv:
	@PYTHON=$(PYTHON) sh tools/venv.sh run

venv-dev:
	@PYTHON=$(PYTHON) sh tools/venv.sh dev

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find capture lab tui samples tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
