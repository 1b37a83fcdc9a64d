# mtls-watch. `make help` lists what there is to do.

CARGO        ?= cargo
PYTHON       ?= python3
ENVOY_VERSION ?= 1.40.0
WASM_TARGET  := wasm32-wasip1
TARGET_DIR   := $(or $(CARGO_TARGET_DIR),target)
WASM         := $(TARGET_DIR)/$(WASM_TARGET)/release/mtls_watch.wasm
# As the linker leaves it. Cargo links it to $(WASM) in every build, so every build finishes it again.
LINKED       := $(TARGET_DIR)/$(WASM_TARGET)/release/deps/mtls_watch.wasm
ENVOY_DIR    := target/envoy/$(ENVOY_VERSION)
CARGO_HOME   ?= $(HOME)/.cargo
# Panic messages carry the path of the source: as it is everywhere, so that everybody's build of one
# commit is the same, byte by byte.
# How much is inlined. What the sources mark is inlined up to six times the usual size for code that is to be
# small: not here, 18 KB of module less. A function with one caller is inlined up to 15,000, whatever the other
# limits are, which makes functions of 10 KB: an Envoy keeps the memory that V8 takes to compile them. So
# an instruction costs 60 instead of 5, and the other limits and the price of a call are 12 times theirs.
WASM_FLAGS   := --remap-path-prefix=$(CARGO_HOME)=/cargo --remap-path-prefix=$(CURDIR)=/mtls-watch \
                -C llvm-args=-inlinehint-threshold=900 -C llvm-args=-inline-threshold=600 -C llvm-args=-inline-instr-cost=60 -C llvm-args=-inline-call-penalty=300

export CARGO ENVOY_VERSION PYTHON

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ First

.PHONY: demo
demo: build envoy ## Two Envoys, real mTLS traffic, the table that operators get (KEEP=1: leave it up)
	$(CARGO) run --quiet -p scenarios --bin demo

# Fetches the tools while it builds, and ends at once if one is not to be had.
.PHONY: test
test: toolchain ## All tests, with all they need: unit, property, module (wasmtime), real Envoys
	$(PYTHON) tools/test

.PHONY: test-quick
test-quick: ## The tests that need no Envoy and no built module: at most a minute
	$(PYTHON) tools/test --quick

.PHONY: lint
lint: toolchain ## Formatting, and clippy on native and wasm
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --quiet -p mesh-tests --test mesh -- -D warnings
	$(CARGO) clippy --lib --target $(WASM_TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --document-private-items -p mtls-watch-x509 -p mtls-watch-core -p mtls-watch-cli

##@ Build

.PHONY: build
build: toolchain ## Build the module: target/wasm32-wasip1/release/mtls_watch.wasm
	CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$(WASM_FLAGS)" \
	  $(CARGO) build --release --lib --target $(WASM_TARGET)
	$(CARGO) run --quiet --release -p postlink -- $(LINKED) $(WASM)

.PHONY: cli
cli: ## Build the command line: target/release/mtls-watch
	$(CARGO) build --release -p mtls-watch-cli

.PHONY: image
image: build ## The OCI image for Istio and Envoy Gateway, as an image layout: target/image
	$(CARGO) run --quiet --package release -- image $(WASM) target/image

.PHONY: dist
dist: build ## What a release publishes: module, image, bill of materials, licences, checksums: target/dist
	$(CARGO) run --quiet --package release -- dist $(WASM) target/dist

.PHONY: test-reproducible
test-reproducible: dist ## Build the last commit again, in another folder and with another cargo home, and compare
	@folder=$$(mktemp -d) && trap 'rm -rf '$$folder EXIT && \
	  git clone --quiet . $$folder/clone && $(MAKE) --no-print-directory -C $$folder/clone dist \
	    CARGO_TARGET_DIR=target CARGO_HOME=$$folder/cargo && \
	  diff --recursive target/dist $$folder/clone/target/dist && echo "the same bytes"

.PHONY: toolchain
toolchain:
	@rustc --print target-libdir --target $(WASM_TARGET) 2>/dev/null | xargs -r test -d || rustup target add $(WASM_TARGET)

##@ Tools, fetched into target/ without root where that works

# One in the PATH is taken if it is new enough. ENVOY=/path, KUBECTL=/path and so on name another.
.PHONY: tools
tools: ## All that the tests run: Envoy, kubectl, Prometheus, registry, skopeo, openssl
	@$(PYTHON) tools/fetch

.PHONY: envoy
envoy: ## Envoy alone (ENVOY_VERSION=1.40.0)
	@$(PYTHON) tools/fetch envoy

##@ Scenarios and measurements

# Without a Prometheus it goes on, and shows no alert.
.PHONY: drill
drill: build envoy ## A CA rotation on three Envoys under load: safe order, wrong order, stalled leaf (two minutes)
	-@$(PYTHON) tools/fetch prometheus
	$(CARGO) build --quiet -p mtls-watch-cli
	$(CARGO) run --quiet -p scenarios --bin drill

# The releases of the table in docs/versions.md. What Envoy does not tell before 1.38 is asserted in tests/failures and
# shown in the table; of tests/envoy, most of which reads the certificate attribute, this is what holds there.
MATRIX_VERSIONS := 1.36.4 1.37.0 1.38.2 1.39.3 1.40.0
MATRIX_CORE     := configuration::that_is_wrong connections::count_outbound connections::count_without_a_byte \
                   directions::decides_whether directions::outbound_listeners requests::count_a_certificate \
                   samples::let_traffic sources::xfcc_goes_on sources::xfcc_of

.PHONY: test-matrix
test-matrix: build ## The real-Envoy tests on five releases, and the table in docs/versions.md (UPDATE=1 rewrites it)
	@set -e; for version in $(MATRIX_VERSIONS); do \
	  echo "Envoy $$version"; export ENVOY_VERSION=$$version; \
	  $(MAKE) --no-print-directory envoy ENVOY_VERSION=$$version; \
	  case $$version in 1.36.*|1.37.*) only="$(MATRIX_CORE)" ;; *) only= ;; esac; \
	  $(CARGO) test --quiet --test failures; \
	  $(CARGO) test --quiet --test envoy -- $$only; \
	  case $$version in 1.36.*) overlays= ;; *) overlays=istio::filter_state ;; esac; \
	  $(CARGO) test --quiet --package deploy -- istio::xfcc $$overlays; \
	done
	$(CARGO) run --quiet -p scenarios --bin matrix -- $(if $(UPDATE),--update,--check) $(MATRIX_VERSIONS)

# 0.1. Its readers of certificates, base64 and JSON were our own: what the crates that do it now may cost is set beside it.
BEFORE_COMMIT := a54e14e
BEFORE        := target/before/$(BEFORE_COMMIT)/target/$(WASM_TARGET)/release/mtls_watch.wasm

$(BEFORE):
	rm -rf target/before && git clone --quiet --no-checkout . target/before/$(BEFORE_COMMIT)
	git -C target/before/$(BEFORE_COMMIT) checkout --quiet $(BEFORE_COMMIT)
	$(MAKE) --no-print-directory -C target/before/$(BEFORE_COMMIT) build CARGO_TARGET_DIR=target

.PHONY: refusals
refusals: build ## Refused and sound handshakes with ten TLS stacks, on five releases: who is named, and why, as a table
	@$(PYTHON) tools/fetch openssl stacks
	@set -e; for version in $(MATRIX_VERSIONS); do \
	  $(MAKE) --no-print-directory envoy ENVOY_VERSION=$$version; \
	done
	$(CARGO) run --quiet -p scenarios --bin refusals -- $(MATRIX_VERSIONS)

# Its data are in no package registry: LIMBO names the file.
.PHONY: limbo
limbo: envoy ## LIMBO=limbo.json: the cases of x509-limbo, put before Envoy and `inspect --trusted`; writes docs/limbo.md
	@test -f "$(LIMBO)" || { echo "LIMBO=$(LIMBO): no such file; it is in https://github.com/C2SP/x509-limbo" >&2; exit 1; }
	LIMBO=$(abspath $(LIMBO)) $(CARGO) test --quiet --test envoy all_of_x509_limbo -- --ignored

.PHONY: bench
bench: build envoy $(if $(QUICK),,$(BEFORE)) ## What it costs in a real Envoy, side by side with other filters (QUICK=1: only whether this works)
	$(CARGO) build --quiet --release -p empty-filter -p bare-filter --target $(WASM_TARGET)
	$(if $(QUICK),,BEFORE=$(BEFORE)) $(CARGO) run --quiet --profile bench -p scenarios --bin bench
	@echo "What events cost in the module:"
	@$(CARGO) test --quiet --test module counts -- --nocapture | grep -oE "(request|connection|data|tick|  +instr)[ ,.].*[0-9s]$$"

.PHONY: bench-core
bench-core: ## What the core's steps cost, in nanoseconds (criterion) and instructions (valgrind)
	$(CARGO) run --quiet --profile bench -p bench-core

# cargo-fuzz needs no nightly for the code here: it is safe Rust, in which an overflow or a panic is what
# there is to find. With FUZZ_TOOLCHAIN=nightly the address sanitizer watches the dependencies, too.
FUZZ_SECONDS   ?= 60
FUZZ_TOOLCHAIN ?=
FUZZ_TARGETS   ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
CARGO_FUZZ     := target/tools/bin/cargo-fuzz

$(CARGO_FUZZ):
	$(CARGO) install --quiet --locked --root target/tools cargo-fuzz

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Fuzz each parser for FUZZ_SECONDS=60, against two other X.509 parsers too
	@$(PYTHON) tools/fetch c++
	@test -z "$(FUZZ_TOOLCHAIN)" || rustup run $(FUZZ_TOOLCHAIN) rustc --version || \
	  { echo "no such toolchain: rustup toolchain install $(FUZZ_TOOLCHAIN)"; exit 1; }
	FUZZ_CORPUS=fuzz/corpus $(CARGO) test --quiet -p fuzz-targets --test differential fuzz::seeds_hold
	@set -e; for target in $(FUZZ_TARGETS); do \
	  $(if $(FUZZ_TOOLCHAIN),RUSTUP_TOOLCHAIN=$(FUZZ_TOOLCHAIN)) $(CARGO_FUZZ) run \
	    $(if $(FUZZ_TOOLCHAIN),,--sanitizer none) $$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=20000 -timeout=5 -rss_limit_mb=1024 >target/fuzz.log 2>&1 || \
	    { cat target/fuzz.log; echo "$$target: keep the input: cp fuzz/artifacts/$$target/... fuzz/regressions/$$target/"; exit 1; }; \
	  printf '%-14s %s\n' $$target "$$(grep DONE target/fuzz.log)"; \
	done

.PHONY: rules-cost
rules-cost: ## What the alert rules cost a Prometheus with 8,000 proxies: seconds by group, at most ten (six minutes)
	@$(PYTHON) tools/fetch prometheus
	$(PYTHON) tools/rules-cost

.PHONY: fleet-cost
fleet-cost: cli ## How long fleet and rotation-status take for 8,000 generated proxies in a Prometheus: at most two seconds
	@$(PYTHON) tools/fetch prometheus
	FULL=1 MTLS_WATCH=target/release/mtls-watch $(CARGO) test --quiet --test monitoring store -- --nocapture

.PHONY: soak-alerts
soak-alerts: ## A simulated week of eight issuers under the alert rules: nothing fires, and a stalled rotation is told (four minutes)
	@$(PYTHON) tools/fetch prometheus
	FULL=1 $(CARGO) test --quiet --test monitoring simulation

FLEETS ?= 10000

.PHONY: soak-gates
soak-gates: ## The gates of rotation-status for FLEETS=10000 random fleets and rotations, against a model of TLS
	MODEL_FLEETS=$(FLEETS) $(CARGO) test --quiet --release -p mtls-watch-cli --test rotation_status -- model --nocapture

.PHONY: hostile
hostile: build envoy ## Hostile peers in full numbers: 50,000 trusted certificates, 10,500 refused ones; prints the figures
	FULL=1 $(CARGO) test --quiet --test envoy --test failures -- --nocapture --test-threads 1 crowd:: hostile:: strangers::

.PHONY: soak
soak: build envoy ## MINUTES=3 of load while certificates and configuration change: nothing lost, nothing grows
	$(CARGO) run --quiet -p scenarios --bin soak

##@ Care

# Pinned: a new release of it finds what is new to it, and not what a change broke.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
target/tools/bin/actionlint:
	@command -v go >/dev/null || { echo "no Go, which builds actionlint: https://go.dev/dl" >&2; exit 1; }
	GOBIN=$(abspath $(@D)) go install $(ACTIONLINT)

.PHONY: lint-workflows
lint-workflows: target/tools/bin/actionlint ## GitHub's workflows, by actionlint (needs Go)
	target/tools/bin/actionlint .github/workflows/*.yml

.PHONY: lint-dashboards
lint-dashboards: ## The dashboards, by Grafana's own library, which reads them strictly (needs Go)
	@command -v go >/dev/null || { echo "no Go: https://go.dev/dl" >&2; exit 1; }
	cd tools/dashboards && go run . ../../envoy-config/grafana/*.json

.PHONY: lints
lints: ## Ask zlint and pkilint for the names of their lints, which docs/lints.md sorts (needs Go; then make docs)
	@command -v go >/dev/null || { echo "no Go: https://go.dev/dl" >&2; exit 1; }
	$(PYTHON) tools/lints/list

# Licences, sources and duplicates are in make test, too; advisories need the RustSec database on GitHub.
target/tools/bin/cargo-deny:
	$(CARGO) install --quiet --locked --root target/tools cargo-deny

.PHONY: audit
audit: target/tools/bin/cargo-deny ## Dependencies by deny.toml and the RustSec advisories (needs GitHub)
	target/tools/bin/cargo-deny check
	target/tools/bin/cargo-deny --manifest-path fuzz/Cargo.toml --config deny.toml check

.PHONY: docs
docs: ## Rewrite the generated parts of the documentation
	UPDATE_DOCS=1 $(CARGO) test --test docs -- --test-threads=1
	$(PYTHON) tools/mixin envoy-config/prometheus
	UPDATE_DOCS=1 $(CARGO) test --test monitoring the_prometheus_rule
	UPDATE_DOCS=1 $(CARGO) test -p scenarios --test refusals the_documentation
	UPDATE_DOCS=1 $(CARGO) test -p mtls-watch-cli --test commands lints

# The dashboard as Grafana's own libraries draw it. What it takes is large, and needed for nothing else.
SCREENSHOT_DIR := target/screenshot
SCREENSHOT_PACKAGES := chromium fonts-inter npm pngquant

.PHONY: screenshot
screenshot: build envoy ## The picture of the dashboard in docs/monitoring.md, from real Envoys (four minutes)
	@$(PYTHON) tools/fetch prometheus
	@for tool in chromium npm pngquant; do command -v $$tool >/dev/null || \
	  { echo "$$tool is missing: apt-get install -y --no-install-recommends $(SCREENSHOT_PACKAGES)" >&2; exit 1; }; done
	mkdir -p $(SCREENSHOT_DIR)
	cp tools/scenarios/src/bin/screenshot/package.json $(SCREENSHOT_DIR)/
	npm install --silent --ignore-scripts --no-audit --no-fund --prefix $(SCREENSHOT_DIR)
	$(CARGO) run --quiet -p scenarios --bin screenshot -- docs/images/dashboard.png $(SCREENSHOT_DIR)/node_modules

.PHONY: clean
clean: ## Remove what was built and fetched
	$(CARGO) clean

##@ A real Istio

include tools/mesh/mesh.mk
