# Both images, from one build:
#   docker build --target webhook -t sluice-webhook .
#   docker build --target registrar -t sluice-registrar .
# Each holds one static program and the authorities it may trust; no shell, no libraries, no root.
ARG RUST=1.95.0
FROM docker.io/library/rust:${RUST}-bookworm AS build
WORKDIR /src
COPY . .
RUN .ci/static /out && install -D /etc/ssl/certs/ca-certificates.crt /out/ca-certificates.crt

FROM scratch AS webhook
COPY --from=build /out/webhook /webhook
USER 65532:65532
ENTRYPOINT ["/webhook"]

FROM scratch AS registrar
# AWS is called by TLS.
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/registrar /registrar
USER 65532:65532
ENTRYPOINT ["/registrar"]
