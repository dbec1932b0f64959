# One door to everything. `make help` lists the targets; each installs what it needs and says what it does.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS := $(CURDIR)/.tools/node_modules/.bin
export PATH := $(TOOLS):$(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: help up demo build install test check fast fleet bench images kernel lab lab-shell bench-lab setup deps dev dev-cp dev-agent dev-frontend browser screenshots clean generate format code-interpreter

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

up: build images ## first sandbox in one command: installs, builds and runs everything on this machine
	@builds/wrenn up $(ARGS)

demo: build images ## creates a sandbox, runs Python in it, pauses and resumes it, prints results and timings
	@bun scripts/demo.ts $(ARGS)

build: deps ## builds/wrenn-cp, wrenn-agent, envd, wrenn and the dashboard
	@bun scripts/build.ts

install: build ## make the programs commands of this machine, as links in PREFIX/bin (/usr/local, or ~/.local when not root)
	@scripts/install.sh $(PREFIX)

test: build images browser ## every test: fast ones, then real VMs
	@bun scripts/test.ts $(ARGS)

check: deps ## format, lint, types, import boundaries, fast tests
	@bun run check

fast: deps ## fast tests only
	@bun run fast

fleet: deps ## two control planes, three host agents and one PostgreSQL on this machine; ARGS=--kill kills each under load
	@bun scripts/fleet.ts $(ARGS)

bench: build images browser ## measure every promise of SPEC.md against its raw baseline
	@bun bench/run.ts $(ARGS)

images: build ## guest kernel, and the templates minimal and base
	@images/build.sh

code-interpreter: build ## the templates code-interpreter and code-runner-beta: Python, JavaScript, TypeScript, Bash with state
	@python3 -m pip --version >/dev/null 2>&1 || scripts/setup.sh python3-pip
	@images/build.sh code-interpreter

kernel: build ## build the small guest kernel once (about 5 minutes): boots three times faster
	@images/kernel/build.sh

lab: build images ## production's drivers tested on an emulated KVM host; ARGS='run -- COMMAND' runs one in it
	@bun lab/main.ts $(ARGS)

lab-shell: build images ## a terminal in that host
	@bun lab/main.ts shell

bench-lab: build images ## production's drivers against a bare Firecracker, as ratios, in that host
	@bun lab/main.ts run --get .cache/lab/results -- bun lab/bench.ts
	@cp .cache/lab/results/bench.json bench/results/lab.json

browser: ## Chromium for the dashboard's tests, unless WRENN_CHROMIUM names one
	@[ -n "$$WRENN_CHROMIUM" ] || command -v google-chrome >/dev/null || scripts/setup.sh chromium

screenshots: build images browser ## take docs/screenshots anew, from a running system
	@bun scripts/screenshots.ts

setup: ## install system packages that are missing (as root), or print the command that does
	@scripts/setup.sh

deps: setup
	@scripts/deps.sh

dev: build images ## the whole system from the sources, restarted when they change
	@bun --watch packages/cli/src/main.ts up $(ARGS)

dev-cp: deps ## the control plane alone, restarted when its sources change
	@bun --watch packages/control/src/main.ts $(ARGS)

dev-agent: deps ## the host agent alone, restarted when its sources change
	@bun --watch packages/host/src/main.ts $(ARGS)

dev-frontend: deps ## the dashboard on port 5173 with hot reload, against the server at WRENN_BASE_URL or 127.0.0.1:9725
	@cd packages/web && bun --bun vite dev

generate: deps ## regenerate code from packages/contract/proto
	@bun run generate

format: deps ## format every file
	@biome format --write .
	@bun packages/web/check.ts --write

clean: ## remove what was built here; keeps images and sandboxes under $$WRENN_DIR
	@rm -rf builds .cache node_modules packages/*/node_modules .tools
