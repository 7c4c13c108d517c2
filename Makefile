# Flightbell's commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export SQLX_OFFLINE := true

CARGO ?= cargo
# Everything that tests and measurements ask is on this machine, where no proxy is.
LOCAL = NO_PROXY=localhost,127.0.0.0/8,::1
BUILT = $${CARGO_TARGET_DIR:-target}/debug
SERVERS = $(BUILT)/with-servers --

.PHONY: help deps deps-test build demo test lint check-k8s rehearse-k8s bench sqlx doctor clean

help: ## Lists these commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Installs what is missing: system packages, Kafka's jars
	@packaging/deps.sh

deps-test:
	@packaging/deps.sh test

build: deps ## Builds everything (3 to 6 minutes the first time on two cores)
	@echo "==> building (3 to 6 minutes the first time on two cores)"
	$(CARGO) build --locked --workspace

demo: build ## Runs Flightbell on recorded traffic and prints the address to open
	@$(BUILT)/flightbell demo

test: deps-test ## Runs every test, on a real Kafka and PostgreSQL that it starts and stops
	@echo "==> building the tests (a few minutes the first time on two cores)"
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-run
	@echo "==> running the tests"
	$(LOCAL) $(SERVERS) $(CARGO) test --locked --workspace --no-fail-fast

lint: ## Checks format, lints, documentation, licences, advisories, dependencies and spelling
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@packaging/lint-tools.sh
	@packaging/each-crate-alone.sh

check-k8s: ## Checks manifests, images and scripts on real tools and a real API server (needs Go 1.26; no cluster)
	@k8s/check/check.sh

rehearse-k8s: ## Rehearses operations on a real Kubernetes node and writes REHEARSAL.md (as root, on Linux; needs Go 1.26)
	@k8s/lab/rehearse

sqlx: deps ## Refreshes the offline data of the SQL checks (needs sqlx-cli)
	$(CARGO) build --locked -p testkit --bins
	$(SERVERS) packaging/sqlx.sh

bench: deps ## Measures speed and memory on a release build (8 minutes the first time on two cores)
	@echo "==> building for release (8 minutes the first time on two cores)"
	$(CARGO) build --locked --release --workspace --bins --bench speed
	$(LOCAL) $(CARGO) bench --locked --workspace --bench speed -- $(PARTS)

doctor: build ## Says what is wrong on this machine, and how to mend it
	@$(BUILT)/flightbell doctor

clean: ## Removes what was built
	$(CARGO) clean
