# The recipes that people and CI run. `make help` lists them.

CARGO ?= cargo
# Where tools/fetch-debian puts etcd, wrk and the peers, and where tests and benches look first.
export RINGWAY_TOOLS := $(CURDIR)/target/tools

.DEFAULT_GOAL := help
.PHONY: help run demo test tools build lint doc bench bench-ring bench-instructions bench-memory bench-hit-ratio bench-peers bench-purge faults soak clean toolchain

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: toolchain ## start a local fleet: 3 nodes and a gateway in one process
	$(CARGO) run -p ringway-fleet --bin fleet

demo: toolchain ## a fleet before a slow database: asked, counted, and ended (ARGS=--stay goes on)
	$(CARGO) run -p ringway-fleet --bin demo -- $(ARGS)

test: tools ## fetch what the tests need and run them all (short forms)
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace

tools: toolchain ## make etcd, wrk, redis, PostgreSQL callable in target/tools/bin, without root
	tools/fetch-debian etcd etcdctl wrk redis-server postgres initdb

build: toolchain ## the release binaries
	$(CARGO) build --release --workspace --bins

lint: toolchain ## formatting, clippy and rustdoc; any warning is an error
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p cachenode -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

doc: toolchain ## the API documentation, in target/doc
	$(CARGO) doc --no-deps --workspace

bench: tools bench-ring bench-instructions ## the ring bench, the instruction guard, and what a request costs beside a bare responder
	$(CARGO) build --release --workspace --bins
	target/release/load

bench-peers: toolchain ## beside nginx with memcached and webdis with redis; rewrites docs/performance.md (ARGS="--only zipf")
	tools/fetch-debian etcd etcdctl wrk nginx memcached redis-server webdis
	$(CARGO) build --release --workspace --bins
	target/release/peers $(ARGS)

bench-purge: tools ## how long a purge of a million entries takes, and when its memory is given back
	$(CARGO) build --release --workspace --bins
	target/release/purge $(ARGS)

bench-ring: toolchain ## lookup, rebuild and spread of the ring alone
	$(CARGO) bench -p ringway-common --bench ring

bench-instructions: toolchain ## instructions of the hot path's steps, against their limits
	tools/fetch-debian valgrind
	$(CARGO) bench -p ringway-fleet --bench instructions

bench-memory: toolchain ## what entries cost in memory, in either store, with each of three allocators
	$(CARGO) bench -p cachenode --bench memory
	$(CARGO) bench -p cachenode --bench memory --features bench-glibc
	$(CARGO) bench -p cachenode --bench memory --features bench-mimalloc

bench-hit-ratio: toolchain ## how many reads each store answers, beside an exact LRU, on traces from a seed
	$(CARGO) bench -p cachenode --bench hit_ratio

faults: tools ## the long fault suite, which asserts times (as root, for network namespaces)
	$(CARGO) build --release --workspace --bins
	tools/run-faults build
	tools/run-faults

soak: tools ## an hour of random faults under load (SEED=1 MINUTES=60)
	$(CARGO) build --release --workspace --bins
	target/release/soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),60)
	target/release/faults render

clean: ## remove everything built or fetched
	rm -rf target

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "no cargo: install Rust from https://rustup.rs (rust-toolchain.toml names the version)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "no C compiler: sudo apt-get install build-essential" >&2; exit 1; }
