# The targets that people type and CI calls. Everything they make lies in .venv/ and
# .dfpipe/, but for the weights of `make models`.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .dfpipe/demo/dfpipe.yaml

.PHONY: help install demo models test check docs format ui s3 clean lock

help:  ## list the targets
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):[^#]*## /  make \1\t/' | expand -t 18

install: .venv/.installed  ## build .venv from the lock, with the dfpipe command in it

.venv/.installed: requirements/dev.txt pyproject.toml infra/make-venv
	@infra/make-venv $(PYTHON) .venv
	@echo "installing from the lock (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt 2>&1 \
	    | { grep -v 'is ignored: it is neither a file nor a directory' || true; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/dfpipe --version
	@touch $@

demo: install  ## make videos, run the whole pipeline on them, score two unseen ones
	@$(BIN)/dfpipe demo

models: install  ## fetch the weights of the optional detectors into the user's cache, or DFPIPE_MODELS
	@$(BIN)/dfpipe models fetch retinaface dlib cascade

test: install  ## all tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 40 --durations-min 5

check: install docs  ## format, lint, types, layering, spelling, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# --quiet would count no warnings, and so let everything pass.
docs: install  ## build the documentation into .dfpipe/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: install  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: install  ## open the local Prefect and MLflow servers on the demo's data
	@$(BIN)/dfpipe up --config $(DEMO)

s3: install  ## start a real S3 server on this machine, and print how it is reached; `dfpipe down` stops it
	@$(BIN)/dfpipe up --s3

clean:  ## stop the demo's servers and remove everything these targets made; stores of your own stay
	@if [ -x $(BIN)/dfpipe ] && [ -e $(DEMO) ]; then $(BIN)/dfpipe down --config $(DEMO); fi
	rm -rf .dfpipe/demo .dfpipe/site .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: install  ## resolve the newest versions that pyproject.toml allows into requirements/
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(LOCK) --output-file requirements/runtime.txt
	$(BIN)/uv pip compile $(LOCK) --group dev --constraints requirements/runtime.txt --output-file requirements/dev.txt

LOCK := pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
