# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test check unit pure programs lifecycle scenarios lab shell clean
SHELL := /bin/sh

# One selection of packages for all builds: with another one cargo would build the dependencies with other features again.
CARGO_TEST := cargo test --workspace --quiet
LAB := target/debug/lab
IN_LAB := $(LAB) exec --image shell=/bin/sh --image review-server=target/debug/review-server --
STAGE := .ci/stage
# Crates without I/O, and what they must not depend on.
PURE := world
IMPURE := tokio hyper kube-client aws-config

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: binaries ## play the story: real commands on a real control plane, and a table of what was seen
	@$(LAB) demo

test: ## every check, with the time of each stage
	@rm -f target/stages
	@$(STAGE) check $(MAKE) --no-print-directory check
	@$(STAGE) build cargo test --workspace --quiet --no-run --test '*'
	@$(STAGE) unit $(MAKE) --no-print-directory unit
	@$(STAGE) pure $(MAKE) --no-print-directory pure
	@$(STAGE) programs $(MAKE) --no-print-directory programs
	@$(STAGE) lifecycle $(MAKE) --no-print-directory lifecycle
	@$(STAGE) scenarios $(MAKE) --no-print-directory scenarios
	@$(STAGE) demo $(MAKE) --no-print-directory demo
	@echo && cat target/stages

check: ## formatting and lints
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --test '*' --quiet -- -D warnings

unit: ## tests that need nothing but Rust
	@$(CARGO_TEST)

pure: ## proves that the pure crates have no I/O in their dependencies
	@for crate in $(PURE); do \
		for impure in $(IMPURE); do \
			if cargo tree --quiet -p $$crate -e normal --prefix none | grep -q "^$$impure v"; then \
				echo "$$crate depends on $$impure" >&2; exit 1; \
			fi; \
		done; \
	done

binaries:
	@cargo build --workspace --quiet

programs: binaries ## find or build the programs of the control plane
	@$(LAB) build

lifecycle: binaries ## how labs begin and end
	@$(CARGO_TEST) --test lifecycle -- --test-threads 2

scenarios: binaries ## what must hold in the lab, tried in the lab
	@$(IN_LAB) $(CARGO_TEST) --offline --test pods --test processes --test aws

lab: export CMD := $(CMD)
lab: binaries ## run a command in a new lab: make lab CMD='kubectl get nodes -o wide'
	@$(LAB) exec -- sh -c "$$CMD"

shell: binaries ## a shell in a new lab
	@$(LAB) shell

clean: ## remove what was built here (the lab's programs stay in the user's cache)
	@cargo clean
