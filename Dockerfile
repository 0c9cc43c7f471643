# syntax=docker/dockerfile:1
# For those who have a container engine; `make image` builds the same without one. Both run deploy/image.sh.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
# the C compilers for the architecture that is not that of the machine
RUN apt-get update && apt-get install --yes --no-install-recommends \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-x86-64-linux-gnu libc6-dev-amd64-cross
WORKDIR /source
COPY . .
ARG TARGETARCH
# what was built before stays in a cache of the engine
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    make --no-print-directory rootfs ARCH=$TARGETARCH && cp -R target/image/$TARGETARCH/root /rootfs

FROM scratch
COPY --from=build /rootfs/ /
# nobody in particular; a number, as runAsNonRoot cannot judge a name
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/chatcaptain-operator"]
CMD ["run"]
