# Builder and runtime have the same Debian, so the binary finds the C library it was linked with.
FROM rust:slim-bookworm AS builder
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake perl pkg-config nginx-light nghttp2-client openssl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Built twice, with a load in between; `--build-arg BUILD=plain` takes a third of the time, and its binary more CPU.
ARG BUILD=guided
RUN if [ "$BUILD" = guided ]; then ./dev release; \
    else cargo build --release --locked --bin windrose && install -D target/release/windrose target/guided/windrose; fi

FROM debian:bookworm-slim
# Authorities that TLS to endpoints believes by default.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 65532 windrose \
 && useradd --system --no-create-home --shell /usr/sbin/nologin --uid 65532 --gid 65532 windrose
COPY --from=builder /src/target/guided/windrose /usr/local/bin/windrose
COPY conf/ingress.yaml /etc/windrose/windrose.yaml
# By number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080 8443
# SIGTERM drains; give it longer than `server.drain_timeout`: docker stop --time 40.
STOPSIGNAL SIGTERM
# Asks /readyz on the admin address of the configuration.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["windrose", "ready", "-c", "/etc/windrose/windrose.yaml"]
CMD ["windrose", "run", "-c", "/etc/windrose/windrose.yaml"]
