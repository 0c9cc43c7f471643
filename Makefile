# Needs make, bash, cargo and curl. Go is needed for the tests, and for the demo if the control plane cannot be downloaded.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help check demo test mutants chaos bench lint crds drift install control-plane judge
export KEEP PROFILE

help: ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

# all day long: no Go, no cluster
check: lint ## check format, lints, unit tests, the model in short form and the repository; under a minute
	MODEL_SHORT=1 cargo test --locked --lib --bins --test repository --test model

demo: ## deploy, release and roll back on a real control plane; KEEP=1 leaves it running
	@bash tests/demo.sh

# the tests would build it as well, but hide its progress, and it can take minutes
control-plane:
	@cargo run --quiet --locked --package control-plane -- get >/dev/null

# builds it by asking one quick question
judge: control-plane
	@cargo test --quiet --locked --test conformance argocd_offers_the_actions_that_apply >/dev/null

test: judge ## run every test, with a real control plane; about 12 minutes
	cargo test --locked --workspace --no-fail-fast

# in a target directory of its own: it copies the sources to a new folder each time, of which nothing can be used again
mutants: ## break the plan in every small way and show what no test notices; FILE=src/plan/claims.rs one file, SHARD=0/8 a part
	@cargo install --quiet --locked --root target/tools cargo-mutants@27.1.0
	@cargo clean --quiet --workspace --target-dir target/mutants
	@MODEL_SHORT=1 CARGO_TARGET_DIR=$(CURDIR)/target/mutants target/tools/bin/cargo-mutants mutants --output target \
	    --file '$(or $(FILE),src/plan/**/*.rs)' $(if $(SHARD),--shard $(SHARD))

# the modules of tests/e2e with failure scenarios, and the soak
CHAOS := api_server:: crashes:: create:: credentials:: delete:: gitops:: leader:: limits:: rollout:: service_variants:: soak::

# SEED=<printed seed> repeats the random decisions
chaos: control-plane ## run the failure scenarios in their long form, a quarter of an hour and more
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} CHAOS_CREATES=$${CHAOS_CREATES:-10000} \
	    cargo test --locked --test e2e -- --nocapture $(CHAOS)
	cargo test --locked --test robustness -- --nocapture

bench: control-plane ## measure calls, writes, memory and times; ROWS=going-back only these
	cargo bench --locked --bench operator -- $(ROWS)

lint: ## check format, lints and that crds/ matches the code
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	@$(MAKE) --no-print-directory drift

crds: ## generate crds/ from the code, and the copy in the Helm chart
	@cargo run --quiet --locked -- crds | \
	    awk '/^---$$/ { file = "crds/" (file ? "chatbotdeployments" : "chatbotversions") ".yaml" } { print > file }'
	@cp crds/chatbot*.yaml deploy/chart/files/

drift:
	@cargo run --quiet --locked -- crds | diff -u - <(cat crds/chatbotversions.yaml crds/chatbotdeployments.yaml) || \
	    { echo 'crds/ does not match the code; run make crds' >&2; exit 1; }

install: ## install the CRDs and the operator in the cluster of the current kubectl context
	kubectl apply -k crds
	kubectl apply -k deploy
