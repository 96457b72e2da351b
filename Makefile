# The targets are described in README.md. `make test` is all that continuous integration runs.

CARGO ?= cargo

.PHONY: test check fmt dev bench

test: check
	$(CARGO) test --locked

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

bench:
	$(CARGO) build --locked --profile dist --bin tidegate
	$(CARGO) bench --locked --profile dist --bench load -- $(BENCH)
