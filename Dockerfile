# One small image for every process: `docker build -t logweir .`, then `docker run logweir server` and so on.
# The first stage is the only one with a compiler; the last has a C library, CA certificates and BusyBox,
# whose wget asks a process whether it is ready.
FROM rust:1.91-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package logweir \
    && strip --strip-debug -o /logweir target/release/logweir \
    && mkdir /data

FROM gcr.io/distroless/cc-debian12:debug-nonroot
COPY --from=build /logweir /usr/local/bin/logweir
# What a volume mounted here starts with, so that it belongs to the user of the processes.
COPY --from=build --chown=nonroot:nonroot --chmod=0700 /data /var/lib/logweir
ENV LOGWEIR_DATA_DIR=/var/lib/logweir LOGWEIR_LISTEN=0.0.0.0:4317
USER nonroot
EXPOSE 4317
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
    CMD ["/busybox/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:4317/readyz"]
ENTRYPOINT ["/usr/local/bin/logweir"]
CMD ["--help"]
