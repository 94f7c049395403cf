# `make` alone lists the targets. Everything is installed into .venv; nothing outside this folder is changed.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q
CODE = streams model offline_training tests

help: ## List the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1 | \2/p' Makefile | awk -F '|' '{ printf "%-14s%s\n", $$1, $$2 }'

demo: $(VENV)/.demo ## Watch three shoppers: broker, workers, pictures and events, all on this machine
	@$(BIN)/tastestream demo

test: lint types ## Everything: lint, types, all tests (real Kafka too: needs java and mvn)
	@$(BIN)/python -m pytest

unit: $(VENV)/.test ## The tests that need no Kafka
	@$(BIN)/python -m pytest --ignore=tests/kafka --ignore=tests/faults

lint: $(VENV)/.test ## ruff: rules and format
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: $(VENV)/.test ## pyright, strict
	@$(BIN)/pyright --pythonpath $(BIN)/python

faults: $(VENV)/.test ## Whatever dies, nothing is lost: all scenarios with three seeds, and one table (about two hours)
	@$(BIN)/python -m pytest tests/faults -q --faults all --seeds 3 $(FAULTS)

bench: $(VENV)/.test ## The benchmarks, on real Kafka (needs java and mvn)
	@for file in tests/benchmarks/[a-z]*.py tests/benchmarks/[a-z]*/__main__.py; do \
		name=$${file#tests/benchmarks/}; name=$${name%.py}; name=$${name%/__main__}; \
		echo "== $$name"; \
		$(BIN)/python -m tests.benchmarks.$$name || exit 1; \
	done

docs: $(VENV)/.docs ## Build the documentation into build/docs; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(VENV)/.test ## Write docs/reference from the code
	@$(BIN)/python -m tests.docs.reference

clean: ## Remove what make and the tests made; data/ stays
	@rm -rf $(VENV) .cache .hypothesis .pytest_cache .ruff_cache build dist
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing tastestream and its demo into $(VENV) ... (first time only)"
	@$(PIP) install -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "installing what the tests need, torch among it: some minutes ... (first time only)"
	@$(PIP) install -e '.[demo,dev,train,bench]'
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	@echo "installing what the documentation needs ... (first time only)"
	@$(PIP) install -e '.[docs]'
	@touch $@

.PHONY: docs reference
.PHONY: help demo test unit lint types faults bench clean
