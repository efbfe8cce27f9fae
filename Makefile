# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test check unit pure binaries tests simulation simulate programs deny image soak upgrades render clients conformance lifecycle scenarios lab shell bench clean
SHELL := /bin/sh

# One selection of packages for all builds: with another one cargo would build the dependencies with other features again.
CARGO_TEST := cargo test --workspace --quiet
LAB := target/debug/lab
# Where labs of the scenarios leave their logs; the API server's audit log is one of them.
LOGS := target/logs
IN_LAB := $(LAB) exec --logs $(LOGS)/webhook --without registrar --image shell=/bin/sh --image review-server=target/debug/review-server --
# The chart is installed there by its own tests.
FOR_CHART := $(LAB) exec --without webhook,registrar --image sluice-webhook=target/debug/webhook \
	--image sluice-registrar=target/debug/registrar --
# Rollouts meet the lags that a load balancer really has, on clocks that run twenty times faster.
ROLLING := $(LAB) exec --logs $(LOGS)/rollouts --profile real-2023 --time-scale 20 --
# Load balancers by the dozen, in an AWS that is quick and has room for them.
BALANCING := PATH="$(CURDIR)/target/venv/bin:$$PATH" $(LAB) exec --logs $(LOGS)/balancing --profile instant \
	--set quota.network-load-balancers=1000 --
STAGE := .ci/stage
# The aws CLI, boto3 and moto, installed by `make clients`.
VENV := $(CURDIR)/target/venv
# Crates without I/O, and what they must not depend on.
PURE := aws-model nlb registrar-core world
IMPURE := tokio hyper kube-client aws-config

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: binaries clients ## play the story: real commands on a real control plane, and a table of what was seen
	@PATH="$(VENV)/bin:$$PATH" $(LAB) demo

test: ## every check, with the time of each stage
	@rm -f target/stages
	@$(STAGE) check $(MAKE) --no-print-directory check
	@$(STAGE) deny $(MAKE) --no-print-directory deny
	@$(STAGE) build $(MAKE) --no-print-directory binaries tests
	@$(STAGE) unit $(MAKE) --no-print-directory unit
	@$(STAGE) pure $(MAKE) --no-print-directory pure
	@$(STAGE) simulation $(MAKE) --no-print-directory simulation
	@$(STAGE) clients $(MAKE) --no-print-directory clients
	@$(STAGE) conformance $(MAKE) --no-print-directory conformance
	@$(STAGE) programs $(MAKE) --no-print-directory programs
	@$(STAGE) lifecycle $(MAKE) --no-print-directory lifecycle
	@$(STAGE) scenarios $(MAKE) --no-print-directory scenarios
	@$(STAGE) demo $(MAKE) --no-print-directory demo
	@echo && cat target/stages

check: ## formatting and lints
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --test '*' --quiet -- -D warnings

deny: ## licences, sources and advisories of all dependencies, by deny.toml
	@.ci/deny

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

SEEDS := 10000
simulate: ## run the registrar's core against simulated faults: make simulate SEEDS=100000
	@cargo run --quiet -p simulation -- --seeds $(SEEDS)

# The planted defects are a feature of a build of their own, which nothing else is made of.
simulation:
	@$(MAKE) --no-print-directory simulate
	@cargo run --quiet -p simulation -- --crashes
	@cargo run --quiet -p simulation --features planted-bugs -- --planted --seeds 3000

binaries:
	@cargo build --workspace --quiet

# Built outside of the lab, which has no way to a registry.
tests:
	@cargo test --workspace --quiet --no-run --test '*'

programs: binaries ## find or build the programs of the control plane
	@$(LAB) build

HELM := $$($(LAB) build | sed -n 's/^helm\t//p')
render: programs ## write manifests/install.yaml from the chart
	@{ echo "# Rendered from manifests/chart by \`make render\`. Before it is applied: put in YOUR-CLUSTER-NAME, vpc-YOUR-VPC-ID,"; \
		echo "# and the registry of your images before their names. cert-manager must be installed."; \
		"$(HELM)" template sluice manifests/chart --namespace sluice-system \
			--set clusterName=YOUR-CLUSTER-NAME,vpcId=vpc-YOUR-VPC-ID,namespace.create=true; } >manifests/install.yaml

clients: ## install the AWS clients that judge the emulator, the aws CLI among them
	@tests/aws/conformance/venv >/dev/null

conformance: binaries clients ## the emulator, judged by boto3, the aws CLI and moto
	@AWS_EMULATOR=$(CURDIR)/target/debug/aws-emulator tests/aws/conformance/run

lifecycle: binaries tests ## how labs begin and end
	@$(CARGO_TEST) --test lifecycle -- --test-threads 2

scenarios: binaries tests clients ## what must hold in the lab, tried in the lab
	@rm -rf $(LOGS)
	@$(IN_LAB) $(CARGO_TEST) --offline --test aws --test pods --test processes --test webhook --test webhook_answers --test webhook_outages
	@$(LAB) exec --without webhook,cert-manager,aws --image sluice-webhook=target/debug/webhook -- \
		$(CARGO_TEST) --offline --test bindings --test webhook_local_ca
	@$(LAB) exec --without webhook,registrar,cert-manager,aws -- $(CARGO_TEST) --offline --test registrar_policies --test api_server
	@$(FOR_CHART) $(CARGO_TEST) --offline --test chart
	@$(ROLLING) $(CARGO_TEST) --offline --test rollouts -- --test-threads 1
	@PATH="$(VENV)/bin:$$PATH" $(LAB) exec --logs $(LOGS)/registrar -- $(CARGO_TEST) --offline --test registrar -- --test-threads 3
	@PATH="$(VENV)/bin:$$PATH" $(LAB) exec --logs $(LOGS)/failover --without webhook,cert-manager -- \
		$(CARGO_TEST) --offline --test registrar_failover
	@$(BALANCING) $(CARGO_TEST) --offline --test load_balancers --test dual_stack --test instance_targets --test messages --test shared_groups
	@PATH="$(VENV)/bin:$$PATH" $(LAB) exec --without webhook,registrar,cert-manager,aws -- \
		$(CARGO_TEST) --offline --test moto -- --test-threads 1
	@target/debug/permissions $(LOGS)/*/audit.log

lab: export CMD := $(CMD)
lab: binaries clients ## run a command in a new lab: make lab CMD='kubectl get nodes -o wide'
	@PATH="$(VENV)/bin:$$PATH" $(LAB) exec -- sh -c "$$CMD"

shell: binaries clients ## a shell in a new lab, with the aws CLI
	@PATH="$(VENV)/bin:$$PATH" $(LAB) shell

ONLY :=
bench: clients ## one table of figures, goals and what was measured, in release builds: make bench ONLY=webhook,rollouts
	@.ci/bench $(if $(ONLY),--only $(ONLY))

image: ## images sluice-webhook and sluice-registrar, with podman or docker
	@for engine in podman docker; do \
		if $$engine info >/dev/null 2>&1; then \
			for program in webhook registrar; do \
				$$engine build --target $$program --tag sluice-$$program . || exit 1; \
			done; \
			exit 0; \
		fi; \
	done; \
	echo "neither podman nor docker runs here: no image was built" >&2; exit 1

soak: binaries tests ## what takes long: many upgrades; release builds compared, and run where there is nothing else
	@$(STAGE) upgrades $(MAKE) --no-print-directory upgrades
	@$(STAGE) reproducible .ci/reproducible target/static
	@$(STAGE) empty-root .ci/empty-root target/static

upgrades:
	@SLUICE_UPGRADES=20 $(FOR_CHART) $(CARGO_TEST) --offline --test chart upgrades -- --nocapture

clean: ## remove what was built here (the lab's programs stay in the user's cache)
	@cargo clean
