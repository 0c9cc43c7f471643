# Needs make, bash, cargo and curl. Go is needed for the tests, and for the demo if the control plane cannot be downloaded.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help check demo test mutants chaos bench lint deny crds drift rootfs image check-image dist check-version push install control-plane judge
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

# builds it, and promtool, by asking each one quick question
judge: control-plane
	@cargo test --quiet --locked --test conformance -- argocd_offers_the_actions_that_apply alerts_fire >/dev/null

test: judge target/tools/bin/helm target/tools/bin/kustomize ## run every test, with a real control plane; about 17 minutes
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

# Go keeps what it has built; the versions are in tests/tools/go.mod
crane_PACKAGE := github.com/google/go-containerregistry/cmd/crane
helm_PACKAGE := helm.sh/helm/v4/cmd/helm
kustomize_PACKAGE := sigs.k8s.io/kustomize/kustomize/v5
target/tools/bin/crane target/tools/bin/helm target/tools/bin/kustomize: tests/tools/go.mod
	go -C tests/tools build -trimpath -o $(CURDIR)/$@ $($(@F)_PACKAGE)

# built once for all clones: a tool takes minutes
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/chatcaptain-operator/tools
DENY := $(TOOLS)/cargo-deny-0.20.2
CYCLONEDX := $(TOOLS)/cargo-cyclonedx-0.5.9
$(DENY)/bin/cargo-deny $(CYCLONEDX)/bin/cargo-cyclonedx:
	cargo install --quiet --debug --locked --root $(@D)/.. $(subst $(TOOLS)/$(@F)-,$(@F)@,$(patsubst %/bin/,%,$(@D)/))

# the files of the image for one ARCH; the Dockerfile calls it
rootfs: $(CYCLONEDX)/bin/cargo-cyclonedx
	@CYCLONEDX=$< deploy/image.sh root $(ARCH)

image: rootfs target/tools/bin/crane ## build the image as an OCI archive in target/image, without a container engine; ARCH=amd64 only this
	@deploy/image.sh archive

check-image: target/tools/bin/crane
	@deploy/image.sh check

# what a release consists of besides the image in a registry; `gh release` takes the folder
dist: target/tools/bin/helm
	@deploy/image.sh dist
	@target/tools/bin/helm package deploy/chart --destination target/dist
	@cat crds/chatbot*.yaml >target/dist/crds.yaml
	@cd target/dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS

# the tag of a release says the version that stands in Cargo.toml and in the chart
check-version:
	@grep -q '^version = "$(TAG:v%=%)"' Cargo.toml && grep -q '^version: $(TAG:v%=%)$$' deploy/chart/Chart.yaml && \
	    grep -q '^appVersion: $(TAG:v%=%)$$' deploy/chart/Chart.yaml || \
	    { echo 'the tag $(TAG) is not the version in Cargo.toml and deploy/chart/Chart.yaml' >&2; exit 1; }

# the database of advisories is a git repository: where it cannot be reached that part is left out and said so, unless
# ADVISORIES=required
deny: $(DENY)/bin/cargo-deny ## check licences, sources, duplicates and known vulnerabilities of what is built in
	$< --locked check bans licenses sources
	@if timeout 60 $< --locked fetch db; then \
	    $< --locked check --disable-fetch advisories; \
	elif [[ '$(ADVISORIES)' == required ]]; then exit 1; \
	else echo 'NOT CHECKED: advisories, as their database cannot be reached' >&2; fi

push: target/tools/bin/crane ## push what `make image` has built to a registry; IMAGE=registry.example.com/chatcaptain-operator:0.1.0
	@deploy/image.sh push $(IMAGE)

install: ## install the CRDs and the operator in the cluster of the current kubectl context
	kubectl apply -k crds
	kubectl apply -k deploy
