# A real Istio on a real Kubernetes of one node: tools/mesh/README.md. Root, no Docker.

MESH_SETTINGS := MESH_ENVOY=$(abspath $(or $(ENVOY),$(ENVOY_DIR)/envoy/_bin/envoy)) MESH_IMAGE=$(abspath target/image)
MESH := $(MESH_SETTINGS) tools/mesh/mesh

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
# The module with another version in it, to upgrade to: the same code, other bytes.
NEXT := target/mesh-next

.PHONY: mesh-next
mesh-next: image
	@mkdir -p $(NEXT)
	LC_ALL=C sed 's/0\.1\.0/0.1.1/g' $(WASM) >$(NEXT)/mtls_watch.wasm
	$(CARGO) run --quiet --package release -- image $(NEXT)/mtls_watch.wasm $(NEXT)/image

# Compiled outside, for the network inside leads nowhere. FILTER: parts of the scenarios' names.
MESHES ?= $(if $(FILTER),1,3)
.PHONY: test-mesh
test-mesh: export MINUTES := $(MINUTES)
test-mesh: mesh-next cli envoy ## Scenarios on the mesh, asserted at Prometheus (FILTER="egress rotation::right": only those)
	$(CARGO) test --quiet --package mesh-tests --test mesh --no-run
	MESHES=$(MESHES) MESH_NEXT=$(abspath $(NEXT)/image) $(MESH_SETTINGS) tools/mesh/test $(FILTER)
	$(if $(FILTER),,$(MAKE) --no-print-directory -j2 --output-sync=target test-spire test-gateway)

# Scenarios with a SPIRE of their own, without root, on any machine with Go. A crash leaves nothing that runs.
.PHONY: test-spire
test-spire: build cli envoy ## Scenarios on a real SPIRE and Envoys on its SDS: rotations, federation (FILTER=upstream: only those)
	@$(PYTHON) tools/fetch prometheus openssl
	$(CARGO) test --quiet --package mesh-tests --test spire --no-run
	tools/mesh/test-spire $(FILTER)

# On a mesh of its own, beside those of Istio; it is ended whatever comes of it, unless KEEP=1.
.PHONY: test-gateway
test-gateway: export MESH_INSTANCE := gateway
test-gateway: export MESH_PLANE := gateway
test-gateway: image cli envoy ## Scenarios on a real Envoy Gateway and cert-manager (FILTER=renewal: only those; KEEP=1: leave it up)
	$(CARGO) test --quiet --package mesh-tests --test gateway --no-run
	@failed=0; { $(MESH) up && $(MESH) exec $(CARGO) test --offline --quiet --package mesh-tests --test gateway -- $(FILTER); } || failed=1; \
	[ -n "$(KEEP)" ] || $(MESH) down; exit $$failed

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
