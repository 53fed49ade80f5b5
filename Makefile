# Everything a person or a CI does with this repository. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo images test sim blackbox fuzz crashes bench lint fmt clean

CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

build: ## Build the release binaries: target/release/clusterd and clusterctl
	@tests/deps build
	$(CARGO) build --release -p clusterd -p clusterctl

demo: ## Show a cluster of two hosts at work, on this machine (root); KEEP=1 leaves it standing
	@tests/deps demo
	$(CARGO) build -p clusterd -p clusterctl -p cluster-tests --bins
	@tests/images/build
	@tests/demo.sh

images: ## Build the test images from Debian packages: target/images (root)
	@tests/deps images
	@tests/images/build

test: ## Run all tests, those with namespaces and containers too (root)
	@tests/deps test
	@tests/images/build
	@tests/run

sim: ## Run seeds of the simulator: SEEDS=n of them (FROM=n the first), or one with SEED=n; BUGS=1 brings historic ones back
	$(CARGO) run --release -p sim $(if $(BUGS),--features sabotage) -- $(if $(BUGS),--bugs) $(if $(SEED),--seed $(SEED) --without "$(WITHOUT)",--seeds $(or $(SEEDS),1000) --from $(or $(FROM),1))

blackbox: ## Cut, kill and stop a cluster's daemons and set their clocks while clients use it, and judge what they saw (root): SECONDS=60 SEED=n
	@tests/deps test
	@tests/images/build
	$(CARGO) build -p clusterd -p clusterctl -p cluster-tests --bins
	$(CARGO) build -p false-clock
	$(TARGET)/debug/blackbox --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

fuzz: ## Feed all that reads others' bytes with anything, RUNS=200000 inputs each
	RUNS=$(or $(RUNS),200000) $(CARGO) test -p manager --test fuzz -- --ignored many_runs

crashes: ## Many losses of power, kills, damages and failing calls under the store; SEEDS=20
	SEEDS=$(or $(SEEDS),20) $(CARGO) test -p raft-store --lib disk:: -- --ignored --skip child

bench: ## Measure this and a Docker Swarm side by side (root); ROWS="deploy memory" chooses
	@tests/deps bench
	@tests/images/build
	$(CARGO) build --release -p clusterd -p clusterctl -p cluster-tests --bins
	$(TARGET)/release/bench $(ROWS)

lint: ## Check formatting, clippy's and the shell scripts' warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then \
	    shellcheck tests/deps tests/run tests/demo.sh tests/images/build vagrant/provision.sh .ci/run; \
	else echo "shellcheck is not installed: the scripts were not checked"; fi
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; \
	else echo "cargo-deny is not installed: licences and advisories were not checked"; fi

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Remove all labs and all that was built
	@if [ -x $(TARGET)/debug/lab ]; then $(TARGET)/debug/lab down --all; fi
	$(CARGO) clean
