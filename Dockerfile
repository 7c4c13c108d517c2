# The images of Flightbell: a target for each program, built from source, and NAME-prebuilt, which takes a program that
# was built outside. packaging/images/README.md says how to build them.

# Both bases are published for amd64 and arm64, and nothing below depends on the architecture. The tags are exact; a
# digest or a mirror is given with --build-arg.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-20260824-slim

# ---- From source. The base brings g++, make, pkg-config and the headers of OpenSSL and zlib.
FROM ${RUST_IMAGE} AS tools
RUN cargo install --locked cargo-chef@0.1.78 cargo-auditable@0.7.7
WORKDIR /src
# SQL is checked against the committed data, without a database. Line tables would make a program four times as large;
# backtraces keep the names of functions.
ENV SQLX_OFFLINE=true CARGO_PROFILE_RELEASE_DEBUG=none

FROM tools AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

# The layer of the dependencies stays as long as the manifests and the lock file do.
FROM tools AS build
COPY --from=plan /src/recipe.json recipe.json
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo chef cook --locked --release --recipe-path recipe.json \
        --package user-manager --package data-collector --package alert-system --package notifier --package flightbell
COPY . .
# Each program carries the list of its crates (cargo-auditable), which scanners read for an SBOM.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo auditable build --locked --release \
        --package user-manager --package data-collector --package alert-system --package notifier --package flightbell \
    && install -D -t /programs target/release/user-manager target/release/data-collector \
        target/release/alert-system target/release/notifier target/release/flightbell

# ---- What every image has: the libraries that the programs link, and the authorities for OpenSky and Telegram.
FROM ${RUNTIME_IMAGE} AS runtime
# A base that has the packages already is taken as it is, without the network. Nothing here needs set-user-id programs.
# Versions of packages are not pinned, because Debian's mirrors keep only the newest one; the base fixes the release.
# hadolint ignore=DL3008
RUN if ! dpkg-query --show ca-certificates libgcc-s1 libssl3 zlib1g >/dev/null; then \
        apt-get update \
        && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 libssl3 zlib1g \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
# A number, so that Kubernetes can see that it is not root. No program writes to its root file system.
USER 10001:10001
STOPSIGNAL SIGTERM
ARG VERSION=unknown
LABEL org.opencontainers.image.vendor="Flightbell" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

FROM runtime AS user-manager-base
LABEL org.opencontainers.image.title="user-manager" \
      org.opencontainers.image.description="Flightbell's people and the chats that are linked to them: HTTP and gRPC"
EXPOSE 5000 50051 9090
ENTRYPOINT ["/usr/local/bin/user-manager"]

FROM runtime AS data-collector-base
LABEL org.opencontainers.image.title="data-collector" \
      org.opencontainers.image.description="Flightbell's interests, and what it reads from OpenSky: HTTP and gRPC"
EXPOSE 5000 50052 9090
ENTRYPOINT ["/usr/local/bin/data-collector"]

FROM runtime AS alert-system-base
LABEL org.opencontainers.image.title="alert-system" \
      org.opencontainers.image.description="Compares Flightbell's readings with thresholds and raises alerts"
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/alert-system"]

FROM runtime AS notifier-base
LABEL org.opencontainers.image.title="notifier" \
      org.opencontainers.image.description="Sends Flightbell's alerts to Telegram"
EXPOSE 50053 9090
ENTRYPOINT ["/usr/local/bin/notifier"]

# `flightbell migrate`, `flightbell gateway`, `flightbell dlq` and `flightbell doctor`.
FROM runtime AS flightbell-base
LABEL org.opencontainers.image.title="flightbell" \
      org.opencontainers.image.description="Flightbell's HTTPS entry, database migrations and tools for operators"
# The data directory. A volume that is mounted here for the first time takes over its owner.
USER 0:0
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/flightbell
USER 10001:10001
ENV XDG_DATA_HOME=/var/lib
EXPOSE 8080 8443 9090
ENTRYPOINT ["/usr/local/bin/flightbell"]
CMD ["--help"]

# ---- Programs built outside: the build context is the folder that holds them.
FROM user-manager-base AS user-manager-prebuilt
COPY --chmod=0755 user-manager /usr/local/bin/

FROM data-collector-base AS data-collector-prebuilt
COPY --chmod=0755 data-collector /usr/local/bin/

FROM alert-system-base AS alert-system-prebuilt
COPY --chmod=0755 alert-system /usr/local/bin/

FROM notifier-base AS notifier-prebuilt
COPY --chmod=0755 notifier /usr/local/bin/

FROM flightbell-base AS flightbell-prebuilt
COPY --chmod=0755 flightbell /usr/local/bin/

# ---- Programs built above: the build context is the root of the repository.
FROM user-manager-base AS user-manager
COPY --from=build /programs/user-manager /usr/local/bin/

FROM data-collector-base AS data-collector
COPY --from=build /programs/data-collector /usr/local/bin/

FROM alert-system-base AS alert-system
COPY --from=build /programs/alert-system /usr/local/bin/

FROM notifier-base AS notifier
COPY --from=build /programs/notifier /usr/local/bin/

FROM flightbell-base AS flightbell
COPY --from=build /programs/flightbell /usr/local/bin/
