# `make` prints the targets. The only thing needed beforehand is Python 3.11 or newer.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml)
SOURCES := libs services tools tests bench dashboard/build.py
BENCH_INSTALLED := .venv-bench/.installed

# Roles are compiled once and not at every start, where the surroundings would have it so.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup up down status test test-fast conformance dashboard test-dashboard pictures check fix chaos crash-sweep campaigns security containers rolling-upgrade chart kube-install bench bench-quick bench-growth simulate-routing bench-lists bench-dashboard bench-analytics bench-waiting bulk-kills fuzz-api lock clean

help: ## print the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

setup: $(INSTALLED) ## make .venv from requirements.lock

$(INSTALLED): requirements.lock $(MEMBERS) deploy/setup.sh
	@PYTHON="$(PYTHON)" sh deploy/setup.sh
	@touch $@

up: setup ## start everything, send a first message, and print a link to the dashboard
	-@$(BIN)/python dashboard/build.py start
	@$(BIN)/sluice up
	@$(BIN)/sluice demo
	-@$(BIN)/python dashboard/build.py status
	-@echo "Dashboard, signed in once within ten minutes:" && $(BIN)/sluice setup-link

down: ## stop everything that `make up` started
	@test ! -x $(BIN)/sluice || $(BIN)/sluice down

status: setup ## what runs, where, and how much memory it takes
	@$(BIN)/sluice status

WORKERS ?= 2
ORDER = $(if $(SEED),--randomly-seed=$(SEED))

test: setup ## every test, or T="tests/transports tests/bus"; SEED=7: in the order of that run
	@$(BIN)/pytest $(if $(T),$(T),--numprocesses=$(WORKERS) --dist=loadgroup) $(ORDER)

test-fast: setup ## the tests that need no server, in less than a minute
	@$(BIN)/pytest -m "not server" --numprocesses=$(WORKERS) $(ORDER)

conformance: setup ## requests against the providers' own descriptions and clients, forged receipts; prints one JSON object
	@$(BIN)/pytest tests/conformance tests/unit/providers/test_forgeries.py

dashboard: setup ## build the dashboard, unless it is built from the present sources
	@$(BIN)/python dashboard/build.py build

test-dashboard: setup ## the dashboard: its types, its unit tests, and a real browser on the running system
	@if $(BIN)/python dashboard/build.py tools; then \
	    $(BIN)/python dashboard/build.py check && SLUICE_BROWSER_TESTS=1 $(BIN)/pytest tests/dashboard; \
	else echo "test-dashboard: SKIPPED: Node or Chromium cannot be had here, for the reason above" >&2; fi

pictures: setup ## make the pictures of docs/dashboard.md again, from a run of the demo
	@$(BIN)/python -m tests.dashboard.pictures

check: setup ## ruff, mypy, the import arrows, the tests that need no server
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test-fast

fix: setup ## let ruff mend and format what it can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

bench: $(BENCH_INSTALLED) ## all eight scenarios against floors and peers, ratios only; about an hour
	@$(BIN)/python -m bench full

bench-quick: $(BENCH_INSTALLED) ## scenarios 1, 2, 4, 5 in under four minutes
	@$(BIN)/python -m bench quick

bench-growth: $(BENCH_INSTALLED) ## cost per message as the database, the accounts and a backlog grow
	@$(BIN)/python -m bench growth

bench-waiting: setup ## POST /email/send at 50 requests a second over two gateways; prints one JSON object
	@$(BIN)/python -m bench waiting

bench-analytics: setup ## GET /v1/analytics in a project of two million deliveries; prints one JSON object
	@$(BIN)/python -m bench analytics

bench-lists: setup ## pages of GET /v1/messages in a project of two million messages; prints one JSON object
	@$(BIN)/python -m bench lists

bench-dashboard: setup ## the log of the dashboard in a browser, in a project of 100,000 messages; prints one JSON object
	@$(BIN)/python -m bench dashboard

simulate-routing: setup ## SEEDS=5 FIRST_SEED=1 VARY=1: routing policies in eight faults; ends with one JSON object
	@$(MAKE) --no-print-directory $(BENCH_INSTALLED) || echo "without plots: matplotlib could not be installed" >&2
	@$(BIN)/python -m bench.routing --seeds $(or $(SEEDS),5) --first-seed $(or $(FIRST_SEED),1) $(if $(VARY),--vary) \
	    --plots $(or $(PLOTS),docs/routing)

$(BENCH_INSTALLED): bench/requirements.lock bench/setup.sh $(INSTALLED)
	@sh bench/setup.sh
	@touch $@

MESSAGES ?= 10000
KILLS ?= 200

chaos: setup ## MESSAGES=10000 KILLS=200 SEED=7: load, kills, and the check that nothing is lost
	@$(BIN)/python -m tests.chaos chaos --messages $(MESSAGES) --kills $(KILLS) --seed $(or $(SEED),7)

crash-sweep: setup ## kill a process at every failpoint, three hits, both channels
	@$(BIN)/python -m tests.chaos sweep

campaigns: setup ## NAMES= SIZE=: one kind of fault each, in quantity
	@$(BIN)/python -m tests.chaos campaigns $(NAMES) $(if $(SIZE),--size $(SIZE))

bulk-kills: setup ## SIZE=100000: one bulk job, five kills on the way, another tenant beside it
	@$(BIN)/python -m tests.chaos campaigns bulk $(if $(SIZE),--size $(SIZE)) --no-report

REQUESTS ?= 20000

fuzz-api: setup ## REQUESTS=20000 SEED=1: generated requests for every operation; prints one JSON object
	@$(BIN)/python -m tests.fuzz --requests $(REQUESTS) --seed $(or $(SEED),1)

SECONDS_EACH = $(or $(SECONDS),60)

security: setup ## SECONDS=60 NAMES=: each attack of the security review while another tenant sends; prints one JSON object
	@$(BIN)/python -m tests.security --seconds $(SECONDS_EACH) $(NAMES)

containers: setup ## the image and docker-compose.yml on a container engine of their own (root); prints one JSON object
	@$(BIN)/python -m tests.containers $(if $(WORK),--work $(WORK))

rolling-upgrade: setup ## FROM=<commit> RATE=20: upgrade and rollback under load, role by role; prints one JSON object
	@$(BIN)/python -m tests.rolling --from $(or $(FROM),HEAD~1) $(if $(RATE),--rate $(RATE))

chart: setup ## the Helm chart, the alert rules, the boards and the Dockerfile with their checkers; builds these once
	@PATH="$$(sh deploy/tools/checkers.sh):$$PATH" $(BIN)/pytest -rs tests/deploy tests/repository/test_monitoring.py

kube-install: setup ## the Helm chart on an API server of Kubernetes, which is built once; prints one JSON object
	@$(BIN)/python -m tests.kubernetes

lock: setup ## resolve the dependencies again into requirements.lock
	@sh deploy/lock.sh
	@sh bench/lock.sh
	@sh dashboard/lock.sh

clean: down ## end everything and delete .venv, the data and the caches of the checkout
	@rm -rf dashboard/node_modules dashboard/browser/node_modules services/gateway/src/gateway/dashboard/dist
	@rm -rf .venv .venv-bench .sluice .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
