# The two commands: `make serve` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
BIN := .venv/bin
MODEL ?=
ARGS ?=
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	pyproject.toml --extra data --extra train --extra lsp --extra dev

.DEFAULT_GOAL := help
.PHONY: help install serve demo test check layout style types imports format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: ## Set up .venv: pinned packages and vLLM for this machine
	@requirements/install.sh

serve: install ## Serve a model: make serve [MODEL=name] [ARGS="--port 9000 -- --max-num-seqs 4"]
	@exec $(BIN)/magicoder serve $(MODEL) $(ARGS)

demo: install ## The whole loop in small: data, training, serving, completion
	@exec $(BIN)/magicoder demo $(ARGS)

test: install style types imports ## Everything: all checks and all tests
	@requirements/system.sh
	@requirements/editors.sh
	$(BIN)/python -m pytest -m e2e
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not e2e"

check: install style types imports ## The fast loop, under 3 minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not e2e"

style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# The rooms as they are imported: in the wheel, and so for mypy and import-linter, they lie inside.
layout:
	@rm -rf build/layout && mkdir -p build/layout && cp -pr magicoder build/layout/
	@cp -pr custom_kernels lsp server training build/layout/magicoder/

types: layout
	MYPYPATH=build/layout $(BIN)/mypy -p magicoder

imports: layout
	cd build/layout && $(CURDIR)/$(BIN)/lint-imports --no-logo --config $(CURDIR)/pyproject.toml

format: install ## Format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install ## Renew requirements/cpu.txt and gpu.txt from pyproject.toml
	$(LOCK) requirements/torch.in --extra serve-cpu --override requirements/overrides.txt -o requirements/cpu.txt
	$(LOCK) --extra serve -o requirements/gpu.txt

clean: ## Remove .venv and what was built
	rm -rf .venv build dist *.egg-info
