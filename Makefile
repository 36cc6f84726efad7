# `make squad` and `make test` need Python 3.11 or later, git and make; everything else is set up by `make setup`.
# The first interpreter that is new enough and really starts (a version manager's shim may not).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3.15 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

REPO    ?=
SDIST   ?= tabulate==0.8.9
REQUEST ?= modernise to py311, keep the tests green
APPROVE ?= auto
# A worker that is done takes from another: a few tests last as long as a thousand others. With three on two cores all
# take a quarter less time, as every third second of a test is spent in waiting for other processes.
TEST_ARGS ?= -n 3 --dist worksteal

.PHONY: setup node conformance test oldest newest long lint types check squad bench simulate deaths model mutants wrong-peers fuzz chaos steps \
	contest cases clean

setup: $(STAMP)

# Set up again only when the project's own file or the interpreter changed.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; none was found on PATH (set PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# The packages of the peer in JavaScript (node 20 or later, with npm). Without them its tests are left out.
NODE_PEER := reference_agents/node
NODE_STAMP := $(NODE_PEER)/node_modules/.set-up
node: $(NODE_STAMP)

$(NODE_STAMP): $(NODE_PEER)/package.json $(NODE_PEER)/package-lock.json
	npm ci --prefix $(NODE_PEER) --no-audit --no-fund
	touch $(NODE_STAMP)

# LONG=1 adds what `make long` runs.
test: setup
	$(BIN)/python -m pytest -p xdist $(TEST_ARGS) $(if $(LONG),--long)

# The conformance suite as a user runs it: on the coordinator, the agents and the clients that are here.
CONFORM := $(BIN)/a2a conformance run --encoding both --strict --quiet
KEPT    := {state}/coordinators/127.0.0.1_{port}
SKILLS  := --skill conformance.echo --skill conformance.work --skill conformance.fail --skill conformance.ask
JS      := --url {url} --state {state} --encoding {encoding}
conformance: setup
	$(CONFORM) --cmd '$(BIN)/a2a coordinator run --listen 127.0.0.1:{port} --db {state}/ledger.db' \
		--token-file '$(KEPT)/token' --operator-token-file '$(KEPT)/operator-token'
	$(CONFORM) --role agent --cmd '$(BIN)/python -m reference_agents.testee --url {url}'
	$(CONFORM) --role client --cmd '$(BIN)/a2a delegate {skill} --text {input} --key {key} --url {url}'
	@if [ -d $(NODE_PEER)/node_modules ]; then set -x; \
		$(CONFORM) --role agent --cmd 'node $(NODE_PEER)/bin/agent.js $(JS) $(SKILLS)' && \
		$(CONFORM) --role client --cmd 'node $(NODE_PEER)/bin/client.js $(JS) --key {key} --json {input} delegate {skill}'; \
	else echo "the peer in JavaScript is left out: make node"; fi

# The same tests, or some of them, with the oldest packages that pyproject.toml allows, in an environment of their own.
OLDEST       := $(VENV)/oldest
OLDEST_TESTS ?= tests/unit tests/conformance tests/process
AS_OLD_AS_ALLOWED := import re, tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*(re.sub(">=(.*)", r"==\1.*", needed) for needed in project["dependencies"]), sep="\n")
# Without the extra `mcp`, whose package needs newer ones than all else here.
BUT_MCP := import tomllib; \
	extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	print(*(needed.replace(",mcp", "") for needed in extras["dev"]), sep="\n")
oldest: setup
	$(BIN)/python -m venv $(OLDEST)
	$(BIN)/python -c '$(AS_OLD_AS_ALLOWED)' > $(OLDEST)/constraints.txt
	$(BIN)/python -c '$(BUT_MCP)' > $(OLDEST)/dev.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt \
		--editable . --requirement $(OLDEST)/dev.txt
	$(OLDEST)/bin/python -m pytest -p xdist $(TEST_ARGS) $(OLDEST_TESTS)

# The same by the newest Python there is on PATH or of pyenv, where one is newer than that of the other tests.
NEWEST        := $(VENV)/newest
NEWEST_PYTHON ?= $(shell for p in python3.15 python3.14 python3.13 python3.12 \
	$$(ls -d "$$PYENV_ROOT"/versions/3.1[2-9]*/bin/python 2>/dev/null | sort -rV); do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
NEWEST_TESTS  ?= tests/unit tests/conformance tests/process
newest: setup
	@if [ -z "$(NEWEST_PYTHON)" ]; then echo "no Python newer than 3.11 is here: its tests are left out"; else set -ex; \
		$(NEWEST_PYTHON) -m venv $(NEWEST); \
		$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
		$(NEWEST)/bin/python -m pytest -p xdist $(TEST_ARGS) $(NEWEST_TESTS); fi

# The tests that `make test` leaves out: they last long and are like those it runs.
long: setup
	$(BIN)/python -m pytest -p xdist $(TEST_ARGS) -m long --long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

check: lint types test

# The main job. `make squad REPO=PATH` works on a repository of your own.
squad: setup
	$(BIN)/a2a run "$(REQUEST)" $(if $(REPO),--repo "$(REPO)",--sdist "$(SDIST)") --approve $(APPROVE)

# BENCH names some of them, with what they take: BENCH='delegate --slow-sync 1000'.
BENCH ?=
bench: setup
	$(BIN)/python -m benchmarks $(BENCH)

# SEEDS worlds of the seeded simulator from START on, on all cores.
SEEDS ?= 2000
START ?= 0
simulate: setup
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START) --jobs 0

# Small worlds in which the coordinator dies before, during and after each of its appends in turn: one with conflicts,
# one with claims, checkpoints and lost attempts.
WORLDS ?= 19 215
deaths: setup
	$(BIN)/python -m tests.simulation --seed $(WORLDS) --every-append --jobs 0

# Every reachable state of the task rules, and the model's own planted bugs.
model: setup
	$(BIN)/python -m tests.model

# Planted bugs, each of which a checker has to catch.
mutants: setup
	$(BIN)/python -m tests.mutants

# Wrong coordinators, agents and clients, each of which the conformance suite has to find.
wrong-peers: setup
	$(BIN)/python -m tests.conformance

# CYCLES faults, drawn from SEED, over real processes under load, after which the ledger is judged.
CYCLES ?= 300
SEED ?= 1
chaos: setup
	$(BIN)/python -m tests.chaos --cycles $(CYCLES) --seed $(SEED)

# One task with the coordinator killed at its system calls, one after the other: at each EVERY-th of a kind.
EVERY ?= 1
steps: setup
	$(BIN)/python -m tests.chaos.steps --every $(EVERY)

# SECONDS of fuzzing guided by coverage, shared by all targets; what is found is kept in fuzz-findings/.
fuzz: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

# AGENTS agents contend for twenty hierarchical names for SECONDS of simulated time; then the ledger is judged.
AGENTS ?= 50
SECONDS ?= 60
contest: setup
	$(BIN)/python -m tests.simulation.contest --agents $(AGENTS) --seconds $(SECONDS) --seed $(SEED)

# Every documented way a conflict may go, in RUNS fresh processes under two hash seeds.
RUNS ?= 100
cases: setup
	$(BIN)/python -m tests.process.conflict_cases --runs $(RUNS)

clean:
	rm -rf $(VENV) $(NODE_PEER)/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
