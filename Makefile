# `make` alone lists the targets. Everything is installed into .venv; nothing outside this folder is changed.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q
# uv takes a tenth of pip's time. Where there is no uv for the platform, or it does not reach the index that pip's settings name, pip installs.
install = UV_CACHE_DIR=.cache/uv $(BIN)/uv pip install -q --python $(BIN)/python $(1) || $(PIP) install $(1)
# "yes" if somebody watches: the installer then shows a progress bar.
TERMINAL := $(shell test -t 2 && echo yes)
CODE = streams model offline_training tests
# Test processes at a time. Each takes up to 1 GB of memory, with its Kafka.
JOBS = 2
# The tests start hundreds of processes: each one would compile all modules that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Seconds that `make fuzz` takes for each target.
TIME = 60
# Percent of lines and branches that the tests without Kafka have to run.
FLOOR = 87
PYTEST = $(BIN)/python -m pytest
# One file at a time for each process, in the order of tests/conftest.py.
PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Tests on Kafka wait more than they compute, so one process more than JOBS shortens them.
WAITING = -n 3 --dist loadfile --no-loadscope-reorder
WITHOUT_KAFKA = --ignore=tests/kafka --ignore=tests/faults --ignore=tests/image
LOCK = $(BIN)/uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

# The web page needs no build; only its check needs a compiler.
TYPESCRIPT = typescript@5.9.3
TSC = .cache/tsc

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1 | \2/p' Makefile | awk -F '|' '{ printf "%-18s%s\n", $$1, $$2 }'

demo: $(VENV)/.demo ## Watch three shoppers: broker, workers, pictures and events, all on this machine
	@$(BIN)/tastestream demo

test: $(VENV)/.test ## Everything that CI checks (needs java and mvn for the tests on Kafka)
	@echo "two checks at a time; each prints its results when it ends"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target compiled lint types docs unit-and-training kafka-parallel
	@$(MAKE) --no-print-directory alone

# One process compiles torch and the tests, before five import them at the same time.
compiled: $(VENV)/.test
	@mkdir -p .cache
	@$(PYTEST) --collect-only --quiet > .cache/collected.log 2>&1 || { tail -n 30 .cache/collected.log; exit 1; }

# One run imports torch once for each process.
unit-and-training: compiled
	@$(PYTEST) $(PARALLEL) -m 'not slow and not alone' $(WITHOUT_KAFKA)

unit: $(VENV)/.test ## The quick tests: no Kafka, no training; COVERAGE=yes measures
	@$(PYTEST) $(PARALLEL) -m 'not training and not slow and not alone' $(WITHOUT_KAFKA) $(if $(COVERAGE),--cov --cov-report=)

training: $(VENV)/.test ## The tests that train networks from end to end; COVERAGE=yes adds to what unit measured, and fails below the floor
	@$(PYTEST) $(PARALLEL) -m 'training and not slow' tests/offline_training $(if $(COVERAGE),--cov --cov-append --cov-report=term:skip-covered --cov-fail-under=$(FLOOR))

kafka: kafka-parallel alone ## The tests on real Kafka: side by side, and then those that measure time

kafka-parallel: compiled
	@$(PYTEST) $(WAITING) -m 'not alone and not slow' tests/kafka tests/faults

alone: $(VENV)/.test
	@$(PYTEST) -m alone tests/kafka tests/faults tests/streams/profile

slow: $(VENV)/.test ## The tests that take minutes, and that CI leaves out
	@$(PYTEST) $(WAITING) -m slow tests --ignore=tests/image

image-test: $(VENV)/.test ## Build the image and run docker-compose.yml (needs docker with Compose 2 or podman-compose, and port 9092)
	@$(PYTEST) -v tests/image

lint: $(VENV)/.test ## ruff: rules and format; import-linter: what may import what
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/lint-imports --no-logo --no-cache

format: $(VENV)/.test ## Format the code, and repair what ruff can repair
	@$(BIN)/ruff check --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

types: $(VENV)/.test ## pyright, strict; tsc over the modules of the web page, where there is npm
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@command -v npm > /dev/null || { echo "no npm: the modules of the web page are not checked"; exit 0; }; \
		test -x $(TSC)/node_modules/.bin/tsc || npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(TSC) $(TYPESCRIPT) > /dev/null \
		|| { echo "npm does not get $(TYPESCRIPT): the modules of the web page are not checked"; exit 0; }; \
		$(TSC)/node_modules/.bin/tsc --project tests/streams/serve/page/tsconfig.json

docs: $(VENV)/.test ## Build the documentation into build/docs; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # --quiet would hide the warnings that strict mode counts

faults: $(VENV)/.test ## Whatever dies, nothing is lost: all scenarios with three seeds, and one table (about two hours)
	@$(PYTEST) tests/faults -q --faults all --seeds 3 $(FAULTS)

bench: $(VENV)/.test ## The benchmarks, on real Kafka (needs java and mvn)
	@for file in tests/benchmarks/[a-z]*.py tests/benchmarks/[a-z]*/__main__.py; do \
		name=$${file#tests/benchmarks/}; name=$${name%.py}; name=$${name%/__main__}; \
		echo "== $$name"; \
		$(BIN)/python -m tests.benchmarks.$$name || exit 1; \
	done

fuzz: $(VENV)/.test ## Fuzz whatever reads bytes of strangers: TIME=60 seconds for each target, TARGETS="urls times" for some of them
	@$(PIP) install --no-deps --only-binary :all: --target .cache/atheris --upgrade 'atheris>=3,<4' 2> /dev/null || echo "no atheris for this Python or platform"
	@PYTHONPATH=.cache/atheris $(BIN)/python -m tests.fuzz --time $(TIME) $(TARGETS)

screenshots: $(VENV)/.test ## Draw docs/page from the running system: Kafka, three workers, Chromium
	@$(BIN)/python -m tests.docs.screenshots

dashboards: $(VENV)/.test ## Draw docs/operate/dashboards: real workers and faults, as a real Prometheus answers (needs prometheus)
	@$(BIN)/python -m tests.docs.dashboards

reference: $(VENV)/.test ## Write docs/reference and the dashboards from the code
	@$(BIN)/python -m tests.docs.reference
	@$(BIN)/python -m tests.deploy.dashboards

lock: $(VENV)/.test ## Pin all dependencies in requirements/, after a change of pyproject.toml; UPGRADE=yes takes newer versions
	@$(LOCK) --all-extras --output-file requirements/dev.txt
	@$(LOCK) --extra demo --constraint requirements/dev.txt --output-file requirements/demo.txt
	@$(LOCK) --constraint requirements/dev.txt --output-file requirements/run.txt

sbom: $(VENV)/.test ## List what the workers install in build/sbom.json (CycloneDX)
	@mkdir -p build .cache
	@UV_CACHE_DIR=.cache/uv $(BIN)/uvx -q --from 'cyclonedx-bom>=7,<8' cyclonedx-py requirements requirements/run.txt \
		--pyproject pyproject.toml --output-reproducible --output-file build/sbom.json 2> .cache/sbom.log || { cat .cache/sbom.log >&2; exit 1; }
	@echo "wrote build/sbom.json"

audit: $(VENV)/.test ## Look for known vulnerabilities of what the workers install (asks osv.dev on the internet)
	@$(BIN)/python -m tests.audit

clean: ## Remove what make and the tests made; data/ stays
	@rm -rf $(VENV) .cache .hypothesis .pytest_cache .ruff_cache .coverage .import_linter_cache build dist
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: pyproject.toml requirements/demo.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing tastestream and its demo into $(VENV), the first time only: 1 of 3, the installer"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt | $(PIP) install --require-hashes -r /dev/stdin || true
	@echo "2 of 3, $$(grep -c '==' requirements/demo.txt) packages"
	@UV_COMPILE_BYTECODE=1 $(if $(TERMINAL),$(subst -q ,,$(call install,--require-hashes -r requirements/demo.txt)),$(call install,--require-hashes -r requirements/demo.txt))
	@echo "3 of 3, tastestream itself"
	@$(call install,--no-deps -e .)
	@touch $@

$(VENV)/.test: $(VENV)/.demo requirements/dev.txt
	@echo "installing what the tests need, torch among it: some minutes ... (first time only)"
	@$(call install,--require-hashes -r requirements/dev.txt)
	@touch $@

.PHONY: help demo test compiled unit training unit-and-training kafka kafka-parallel alone slow image-test lint format types docs screenshots dashboards reference faults bench fuzz lock sbom audit clean
