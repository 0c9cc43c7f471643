# Needs make, bash, cargo and curl; and go, for tests and where neither a control plane nor its archive is at hand.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test mutants chaos bench lint crds drift install control-plane judge
export KEEP PROFILE

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## show the main job on a real control plane; KEEP=1 leaves it running
	@bash tests/demo.sh

# tests would get them as well; this way whoever waits minutes is told why
control-plane:
	@cargo run --quiet --locked --package control-plane -- get >/dev/null

# one quick question: it is built to answer it
judge: control-plane
	@cargo test --quiet --locked --test conformance argocd_offers_the_actions_that_apply >/dev/null

test: judge ## run all tests, on a real control plane
	cargo test --locked --workspace

mutants: ## break the plan in ten ways and show that the walk notices each
	@bash tests/mutants.sh

# the modules of tests/e2e with failure scenarios, and the soak
CHAOS := api_server:: crashes:: create:: credentials:: delete:: gitops:: leader:: limits:: rollout:: soak::

# SEED=<printed seed> repeats the random decisions
chaos: control-plane ## run the failure scenarios in their long form, a quarter of an hour and more
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} CHAOS_CREATES=$${CHAOS_CREATES:-10000} \
	    cargo test --locked --test e2e -- --nocapture $(CHAOS)
	cargo test --locked --test robustness -- --nocapture

bench: control-plane ## measure the budgets
	cargo bench --locked --bench operator

lint: ## check format, lints and that crds/ is up to date
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	@$(MAKE) --no-print-directory drift

crds: ## write crds/ anew from the code
	@cargo run --quiet --locked -- crds | \
	    awk '/^---$$/ { file = "crds/" (file ? "chatbotdeployments" : "chatbotversions") ".yaml" } { print > file }'

drift:
	@cargo run --quiet --locked -- crds | diff -u - <(cat crds/chatbotversions.yaml crds/chatbotdeployments.yaml) || \
	    { echo 'crds/ is not what the code says: make crds' >&2; exit 1; }

install: ## install CRDs and operator in the cluster of the current kubectl context
	kubectl apply -k deploy
