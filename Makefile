# Thin on purpose: each target is a line or two. `make run` and `make test` are all one needs.
.PHONY: run test bench conformance sweep help

# Real test material and real peers, used when they are there; the tests say what they skipped when not.
export FERULA_CORPUS ?= $(abspath $(wildcard ../shared/corpus))

help:
	@echo "make run          build and start everything on this machine"
	@echo "make test         all tests, one table at the end"
	@echo "make bench        micro benches (criterion)"
	@echo "make conformance  PromQL: the conformance scripts, and random queries against the real Prometheus"
	@echo "make sweep        a store with every byte of its files damaged in turn (long)"

run: toolchain
	cargo run --release --locked --bin ferula

test: toolchain
	@.ci/test

bench: toolchain
	cargo bench --locked --package ferula-benches

conformance: toolchain
	@.ci/conformance

sweep: toolchain
	FERULA_SWEEP=all cargo test --release --locked --package ferula-tsdb --test damage -- --nocapture

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing (Debian: apt-get install gcc)"; exit 1; }
