# A real Istio on a real Kubernetes of one node: tools/mesh/README.md. Root, no Docker.

MESH := MESH_ENVOY=$(abspath $(or $(ENVOY),$(ENVOY_DIR)/envoy/_bin/envoy)) MESH_IMAGE=$(abspath target/image) tools/mesh/mesh

.PHONY: mesh
mesh: image envoy ## A real Istio on a real Kubernetes, in namespaces of their own; the module is in its registry
	$(MESH) up

.PHONY: mesh-build
mesh-build: envoy ## What make mesh starts, compiled into ~/.cache/mtls-watch/mesh
	$(MESH) build

.PHONY: mesh-shell
mesh-shell: ## A shell with kubectl and istioctl that talk to the mesh
	@$(MESH) shell

.PHONY: mesh-down
mesh-down: ## End the mesh: nothing is left of it but what was built
	$(MESH) down

# Compiled outside, for the network inside leads nowhere. FILTER: parts of the scenarios' names.
.PHONY: test-mesh
test-mesh: export MINUTES := $(MINUTES)
test-mesh: mesh cli ## Scenarios on the mesh, asserted at Prometheus (FILTER="egress rotation::right": only those)
	$(CARGO) test --quiet --package mesh-tests --test mesh --no-run
	@failed=0; for filter in $(or $(FILTER),""); do \
	  $(MESH) exec $(CARGO) test --offline --quiet --package mesh-tests --test mesh -- $$filter || failed=1; \
	done; exit $$failed

# What is worth every commit, and has held many times in a row: a deployment, and a rotation with its gates. A part
# that is not there fails it; the mesh is ended whatever comes of it.
CI_SCENARIOS := overlays::mesh_names rotation::an_intermediate
.PHONY: test-mesh-ci
test-mesh-ci: ## The part of test-mesh for every commit, in a mesh of its own that is ended afterwards
	@failed=0; $(MAKE) --no-print-directory test-mesh FILTER="$(CI_SCENARIOS)" || failed=1; \
	$(MAKE) --no-print-directory mesh-down; exit $$failed

.PHONY: soak-mesh
soak-mesh: ## MINUTES=60 of a healthy mesh: no alert fires
	@$(MAKE) --no-print-directory test-mesh FILTER=health MINUTES=$(or $(MINUTES),60)

.PHONY: bench-mesh
bench-mesh: mesh ## What the module costs in a real sidecar, side by side with none and with an empty filter
	$(CARGO) build --quiet --release -p empty-filter --target $(WASM_TARGET)
	$(CARGO) run --quiet --package release -- image $(TARGET_DIR)/$(WASM_TARGET)/release/empty_filter.wasm target/image-empty
	$(MESH) push empty $(abspath target/image-empty)
	$(CARGO) build --quiet --package mesh-tests --bin bench-mesh
	$(MESH) exec $(CARGO) run --offline --quiet --package mesh-tests --bin bench-mesh
	$(MESH) exec $(CARGO) test --offline --quiet --package mesh-tests --test mesh -- --ignored size
