# `make` prints the targets. The only thing needed beforehand is Python 3.11 or newer.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
SOURCES := libs services tests

.PHONY: help setup up down status test check fix lock clean

help: ## print the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(INSTALLED) ## make .venv from requirements.lock

$(INSTALLED): requirements.lock $(MEMBERS) deploy/setup.sh
	@PYTHON="$(PYTHON)" sh deploy/setup.sh
	@touch $@

up: setup ## start everything and send a first message
	@$(BIN)/sluice up
	@$(BIN)/sluice demo

down: ## end everything that `make up` started
	@test ! -x $(BIN)/sluice || $(BIN)/sluice down

status: setup ## what runs, where, and how much memory it takes
	@$(BIN)/sluice status

test: setup ## every test; what they need is started for them
	@$(BIN)/pytest

check: setup ## ruff, mypy, the import arrows, the lock file
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/house

fix: setup ## let ruff mend and format what it can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

lock: setup ## resolve the dependencies anew into requirements.lock
	@sh deploy/lock.sh

clean: down ## end everything and delete .venv, the data and the caches of the checkout
	@rm -rf .venv .sluice .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
