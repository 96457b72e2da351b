# syntax=docker/dockerfile:1
# The gateway as one static program, on nothing but roots of trust.
#
# Dependencies are cooked in a layer of their own, so that a change of ours builds ours alone. Each
# platform builds for itself: nothing is cross-compiled.

ARG RUST=1.95.0

FROM rust:${RUST}-alpine AS chef
RUN apk add --no-cache build-base cmake linux-headers perl
RUN cargo install --locked cargo-chef --version 0.1.78
WORKDIR /src
# The toolchain is that of the image.
ENV RUSTUP_TOOLCHAIN=${RUST}

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# Without a trace of where and when, so that two builds are the same bytes.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    RUSTFLAGS="--remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo/registry/src=crates"
COPY --from=plan /src/recipe.json .
# The target of Alpine's Rust is musl; named, so that the flags below are for the program alone.
RUN TARGET="$(uname -m)-unknown-linux-musl" \
    && cargo chef cook --locked --profile dist --target "$TARGET" --bin tidegate --recipe-path recipe.json
COPY . .
RUN TARGET="$(uname -m)-unknown-linux-musl" \
    && cargo build --locked --profile dist --target "$TARGET" --bin tidegate \
    && install -D "target/$TARGET/dist/tidegate" /out/tidegate

# static:nonroot. Not scratch: OTLP over TLS needs the roots that it brings.
FROM gcr.io/distroless/static@sha256:e2e927ec666bae08560abb3c55d0659eceabb657f56b6782ab500a9fc7f555e3
COPY --from=build /out/tidegate /usr/local/bin/tidegate
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["tidegate"]
CMD ["serve"]
