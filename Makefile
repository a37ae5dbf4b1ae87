# Every target does its own set-up: tools are checked, libtorch is found or made (scripts/env.sh), the rest is cargo's.
#
#   make sweep MANIFEST=quickstart.toml [RESULTS=DIR] [JOBS=N] [ARGS="..."]
#   make torture [ROUNDS=N]
#   make oracles [ARGS=text_cases.py]
#   make parity [REAL=1]

SHELL := bash
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.PHONY: help build sweep work plan report show status doctor test test-gpu oracles parity study-shape mask-scale bench bench-memory bench-peer torture lint fmt check clean

MANIFEST ?=
RESULTS ?=
JOBS ?=
RUN ?=
ARGS ?=
ROUNDS ?= 64
REAL ?=
SHAPE ?= qwen2.5-0.5b
# As shell variables they keep their spaces.
export MANIFEST RESULTS JOBS RUN

TARGET := $${CARGO_TARGET_DIR:-target}
BINARY := "$(TARGET)/release/tickets"
BUILD := scripts/env.sh cargo build --release --locked
NEED_MANIFEST = [ -n "$$MANIFEST" ] || { echo "error: which manifest? make $@ MANIFEST=quickstart.toml" >&2; exit 2; }
COMMON = "$$MANIFEST" $${RESULTS:+--results "$$RESULTS"}

help: ## this list
	@echo "make TARGET [MANIFEST=quickstart.toml] [RESULTS=DIR] [JOBS=N] [RUN=ID] [ARGS=\"...\"]"
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'

build: ## the program: target/release/tickets
	@$(BUILD)

sweep: ## run MANIFEST's grid, or go on with it, and write its report
	@$(NEED_MANIFEST)
	@$(BUILD)
	@exec $(BINARY) sweep $(COMMON) $${JOBS:+--jobs "$$JOBS"} $(ARGS)

work: ## one more worker on MANIFEST's grid: start as many as there are machines that share RESULTS
	@$(NEED_MANIFEST)
	@$(BUILD)
	@exec $(BINARY) work $(COMMON) $${JOBS:+--jobs "$$JOBS"} $(ARGS)

status: ## how far MANIFEST's grid has come, and who is at it (ARGS=--watch)
	@$(NEED_MANIFEST)
	@$(BUILD)
	@exec $(BINARY) status $(COMMON) $(ARGS)

plan: ## show what MANIFEST's grid is and how far it has come
	@$(NEED_MANIFEST)
	@$(BUILD)
	@exec $(BINARY) plan $(COMMON) $(ARGS)

report: ## tables and figures of MANIFEST from its results
	@$(NEED_MANIFEST)
	@$(BUILD)
	@exec $(BINARY) report $(COMMON) $(ARGS)

show: ## one run of MANIFEST: RUN=ID, a prefix of it or a label
	@$(NEED_MANIFEST)
	@[ -n "$$RUN" ] || { echo "error: which run? make show MANIFEST=... RUN=ID (make plan lists them)" >&2; exit 2; }
	@$(BUILD)
	@exec $(BINARY) show $(COMMON) "$$RUN" $(ARGS)

doctor: ## libtorch, devices, memory, disk: what is there and what to do about the rest
	@$(BUILD)
	@exec $(BINARY) doctor $${RESULTS:+--results "$$RESULTS"} $(ARGS)

test: ## all tests that need no GPU
	@scripts/env.sh scripts/test.sh $(ARGS)

test-gpu: ## the tests that need a GPU; fails without one
	@TICKETS_REQUIRE_CUDA=1 CUBLAS_WORKSPACE_CONFIG=:4096:8 \
	    scripts/env.sh cargo test --release --locked --test gpu --test gpu_runs -- --test-threads=1 --nocapture

oracles: ## remake the fixtures of tests/oracles (transformers, torch, trl are installed once), say what moved, load exports
	@scripts/oracles.sh tests/oracles/remake.py $(ARGS)
	@$(if $(ARGS),,scripts/env.sh python3 scripts/parity.py --exports)

parity: ## compare with the references, write the table of docs/parity.md; REAL=1: real vocabularies and templates too
	@scripts/env.sh python3 scripts/parity.py $(if $(REAL),--real)

study-shape: ## two steps of a study manifest at the shape of Qwen2.5-0.5B with random weights: time and memory
	@TICKETS_STUDY_SHAPE=qwen2.5-0.5b scripts/env.sh cargo test --release --locked --test study_shape -- --nocapture

mask-scale: ## time and peak memory of masks at the size of a real model: SHAPE=qwen2.5-1.5b (writes 4 bytes per parameter, and removes them)
	@scripts/env.sh cargo build --release --locked
	@scripts/env.sh python3 scripts/mask_scale.py "$${CARGO_TARGET_DIR:-target}/release/tickets" $(SHAPE)

bench: ## what a step costs on this machine: a small model of random weights, phase by phase (ARGS="--new-tokens 200 --profile")
	@$(BUILD)
	@scripts/bench.sh $(BINARY) $(ARGS)

bench-memory: ## memory of a step on the shape of Qwen2.5-0.5B with random weights, predicted and measured
	@$(BUILD)
	@python3 benches/memory.py $(BINARY) $(ARGS)

bench-peer: ## a step beside TRL's, on the same weights, in turns (TRL is installed once)
	@$(BUILD)
	@python="$$(scripts/oracles.sh -c 'import sys; print(sys.executable)')"; \
	    scripts/env.sh python3 benches/peer.py $(BINARY) "$$python" $(ARGS)

torture: ## kills, faults, power losses, damage: ROUNDS times as many as the tests do (the default takes an hour or two)
	@TICKETS_TORTURE_ROUNDS=$(ROUNDS) scripts/env.sh cargo test --release --locked --lib store::faults
	@TICKETS_TORTURE_ROUNDS=$(ROUNDS) scripts/env.sh cargo test --release --locked --test store_faults -- --nocapture
	@TICKETS_TORTURE_ROUNDS=$(ROUNDS) scripts/env.sh cargo test --release --locked --test executor torture -- --nocapture
	@TICKETS_TORTURE_ROUNDS=$(ROUNDS) scripts/env.sh cargo test --release --locked --test resume kill_9_at_random -- --nocapture

lint: ## formatting, clippy and manifests against their schema, warnings are errors
	@scripts/env.sh --no-libtorch cargo fmt --check
	@scripts/taplo.sh
	@scripts/env.sh cargo clippy --release --all-targets --locked -- -D warnings
	@scripts/env.sh cargo clippy --release --all-targets --locked --no-default-features -- -D warnings

check: lint test ## lint and test

fmt: ## format the Rust code
	@cargo fmt

clean: ## remove the build tree (libtorch stays in the cache)
	@cargo clean
