# Trackbench. A bare `make` says what there is to do; the comments after ## are its text.
SCENARIO ?= quick
ARGS ?=
PYTHON ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help bench-report bench-gate test test-slow check format setup lock clean

help: ## show this page
	@echo 'Trackbench: may the MLflow tracking store move off SQLite? Each target sets .venv up when it needs to.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  SCENARIO=NAME   another scenario (a file of scenarios/, now: $(SCENARIO)): make bench-report SCENARIO=ladder'
	@echo '  ARGS="..."      more arguments for the command behind the target:  make bench-report ARGS="--rounds 2"'
	@echo '  PYTHON=PATH     the Python (3.11 or newer) that a new .venv is made from'

bench-report: setup ## run the benchmark; ends well once the report is in results/latest, whatever it says
	@touch .venv/run-started
	@$(BIN)/trackbench run $(SCENARIO) $(ARGS); code=$$?; \
	case $$code in 0 | 1 | 3 | 4) ;; *) exit $$code ;; esac; \
	case '$(ARGS)' in *--out*) exit 0 ;; esac; \
	test results/latest/report.md -nt .venv/run-started || { \
		echo "make bench-report: trackbench ended with $$code but wrote no results/latest/report.md" >&2; exit 1; }

bench-gate: setup ## run the benchmark and fail with its verdict (for CI; trackbench's own exit codes are finer)
	@$(BIN)/trackbench run $(SCENARIO) $(ARGS)

test: check ## check the code, then run every test that is not slow
	$(BIN)/python -m pytest tests/unit -n auto $(ARGS)
	$(BIN)/python -m pytest tests/browser tests/servers -n 2 --dist loadfile $(ARGS)

test-slow: setup ## run the slow tests only
	$(BIN)/python -m pytest -m slow $(ARGS)

check: setup ## lint, formatting and types, without running a test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: setup ## put the code into the form that check asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: ## make or renew .venv (instant when nothing has changed)
	@PYTHON='$(PYTHON)' sh tools/setup

lock: setup ## renew requirements.lock from pyproject.toml (ARGS=--upgrade: the newest of everything)
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 --universal --quiet $(ARGS) -o requirements.lock
	@! grep -n '://' requirements.lock || { echo 'make lock: an address got into requirements.lock' >&2; exit 1; }

clean: ## remove .venv and every cache; results/ stays
	rm -rf .venv build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
