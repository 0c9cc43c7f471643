#!/usr/bin/env bash
# Builds the image of the operator without a container engine; `make image` and the Dockerfile call it.
#
#   image.sh root [ARCH...]  the file system of the image in target/image/ARCH/root: a static binary, CA roots, the SBOM. Without
#                            ARCH that of the machine, and the other one where there is a compiler for it
#   image.sh archive         an OCI archive in target/image for every ARCH of which there is a root
#   image.sh check           the binary of the archive runs as non-root where nothing else is, and a second archive is the same
#   image.sh dist            puts archive, binaries and SBOMs into target/dist
#   image.sh push REFERENCE  pushes it to a registry
#
# ARCH is amd64 or arm64. The other architecture than that of the machine needs a C compiler for it, as a part of the TLS
# library is written in C: gcc-aarch64-linux-gnu with libc6-dev-arm64-cross, or gcc-x86-64-linux-gnu with libc6-dev-amd64-cross.
# Nothing in the image depends on the time.
# CA_ROOTS is the file of the CA roots.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly out=target/image crane=target/tools/bin/crane name=chatcaptain-operator
readonly ca_roots=${CA_ROOTS:-/etc/ssl/certs/ca-certificates.crt}
version=$(sed -nE '0,/^version = "(.*)"/s//\1/p' Cargo.toml)
readonly version

# crane tells each blob: only if it fails is that of interest.
crane() { "$crane" "$@" >"$out/crane.log" 2>&1 || fail "crane $1: $(<"$out/crane.log")"; }

fail() { printf 'image: %s\n' "$*" >&2 && exit 1; }

# ---------------------------------------------------------------------------------------------------------- the files

triple_of() {
    case $1 in
        amd64) echo x86_64-unknown-linux-musl ;;
        arm64) echo aarch64-unknown-linux-musl ;;
        *) fail "no such architecture: $1; name amd64 or arm64" ;;
    esac
}

# A C compiler: the C code of the TLS library needs no C library, so one for glibc does.
compiler_of() {
    local machine=${1%%-*} candidate
    if [[ $machine == "$(uname -m)" ]]; then
        echo gcc
        return
    fi
    for candidate in "$machine-linux-musl-gcc" "$machine-linux-gnu-gcc"; do
        if command -v "$candidate" >/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# The architectures that this machine can build for.
possible() {
    local arch
    for arch in amd64 arm64; do
        if [[ -n $(compiler_of "$(triple_of "$arch")") ]]; then
            echo "$arch"
        else
            printf 'image: %s is left out: no C compiler for it\n' "$arch" >&2
        fi
    done
}

build() {
    local triple=$1 compiler
    compiler=$(compiler_of "$triple")
    [[ -n $compiler ]] || fail "no C compiler for $triple; see the head of deploy/image.sh"
    if command -v rustup >/dev/null; then
        rustup --quiet target add "$triple"
    fi
    local variable=${triple//-/_}
    export "CC_$variable=$compiler"
    if [[ $triple != "$(uname -m)"-* ]]; then
        # the linker that comes with Rust links for every architecture
        export "CARGO_TARGET_${variable^^}_LINKER=rust-lld"
    fi
    cargo build --locked --release --package "$name" --bin "$name" --target "$triple"
}

# The same for the same Cargo.lock: without a serial number, the time and the folder.
sbom() {
    SOURCE_DATE_EPOCH=0 "${CYCLONEDX:-cargo-cyclonedx}" cyclonedx --quiet --format json --spec-version 1.5 \
        --target "$1" --override-filename sbom.cdx
    # references to members of the workspace would say where it was built
    sed "s|path+file://$PWD|path+file://|g" sbom.cdx.json >"$2"
    rm sbom.cdx.json
    # every other member of the workspace gets one, too
    find tests -name sbom.cdx.json -not -path '*/target/*' -delete
}

root() {
    local arch=$1 triple dir
    triple=$(triple_of "$arch")
    dir=$out/$arch/root
    [[ -s $ca_roots ]] || fail "no CA roots in $ca_roots; install ca-certificates, or set CA_ROOTS"
    build "$triple"
    rm -rf "$dir"
    install -D -m 0555 "target/$triple/release/$name" "$dir/usr/local/bin/$name"
    install -D -m 0444 "$ca_roots" "$dir/etc/ssl/certs/ca-certificates.crt"
    install -D -m 0444 LICENSE "$dir/usr/share/doc/$name/LICENSE"
    sbom "$triple" "$dir/usr/share/doc/$name/sbom.cdx.json"
    chmod 0444 "$dir/usr/share/doc/$name/sbom.cdx.json"
    find "$dir" -type d -exec chmod 0755 {} +
}

# --------------------------------------------------------------------------------------------------------- the archive

# A registry in memory, which ends with this script: crane changes the settings of an image only there.
start_registry() {
    local log=$out/registry.log tries
    # not the port of an earlier one
    : >"$log"
    "$crane" registry serve --address 127.0.0.1:0 >"$log" 2>&1 &
    registry_pid=$!
    trap 'kill "$registry_pid" 2>/dev/null || true' EXIT
    for ((tries = 0; tries < 100; tries++)); do
        port=$(sed -nE 's/.*serving on port ([0-9]+).*/\1/p' "$log" | head -n 1)
        [[ -z $port ]] || return 0
        sleep 0.1
    done
    fail "the registry does not start: $(cat "$log")"
}

one_image() {
    local arch=$1 reference=$2 layer=$out/$1/layer.tar
    tar --create --file "$layer" --directory "$out/$arch/root" --sort=name --mtime=@0 --owner=0 --group=0 \
        --numeric-owner --format=gnu etc usr
    crane append --oci-empty-base --new_layer "$layer" --new_tag "$reference"
    crane mutate "$reference" --tag "$reference" --set-platform "linux/$arch" --user 65532:65532 \
        --entrypoint "/usr/local/bin/$name" --cmd run --exposed-ports 8080 \
        --label "org.opencontainers.image.title=$name" \
        --label "org.opencontainers.image.description=Kubernetes operator for chatbot versions and deployments" \
        --label "org.opencontainers.image.version=$version" \
        --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --label "org.opencontainers.image.licenses=Apache-2.0"
}

archive() {
    local arch images=()
    start_registry
    for arch in amd64 arm64; do
        if [[ -d $out/$arch/root ]]; then
            one_image "$arch" "127.0.0.1:$port/$name:$arch"
            images+=(--manifest "127.0.0.1:$port/$name:$arch")
        fi
    done
    ((${#images[@]})) || fail "no file system in $out; run make image"
    crane index append "${images[@]}" --tag "127.0.0.1:$port/$name:all"
    rm -rf "$out/oci"
    crane pull --format oci "127.0.0.1:$port/$name:all" "$out/oci"
    tar --create --file "$out/$name-$version.oci.tar" --directory "$out/oci" --sort=name --mtime=@0 --owner=0 --group=0 \
        --numeric-owner --format=gnu .
    "$crane" digest "127.0.0.1:$port/$name:all" >"$out/digest"
    describe
}

describe() {
    local arch
    for arch in amd64 arm64; do
        if [[ -d $out/$arch/root ]]; then
            printf '%s: binary %s bytes, %s components in the SBOM\n' "$arch" \
                "$(stat -c %s "$out/$arch/root/usr/local/bin/$name")" \
                "$(grep -c '"purl"' "$out/$arch/root/usr/share/doc/$name/sbom.cdx.json")"
        fi
    done
    printf '%s: %s bytes, %s\n' "$out/$name-$version.oci.tar" "$(stat -c %s "$out/$name-$version.oci.tar")" "$(<"$out/digest")"
}

# ----------------------------------------------------------------------------------------------------------- the check

# The layer of this machine's architecture, unpacked from the archive as a container engine does.
unpack() {
    local dir=$1 arch
    case $(uname -m) in x86_64) arch=amd64 ;; *) arch=arm64 ;; esac
    start_registry
    mkdir -p "$dir/layout" "$dir/root"
    tar --extract --file "$out/$name-$version.oci.tar" --directory "$dir/layout"
    crane push --index "$dir/layout" "127.0.0.1:$port/$name:checked"
    "$crane" config --platform "linux/$arch" "127.0.0.1:$port/$name:checked" >"$dir/config.json"
    "$crane" export --platform "linux/$arch" "127.0.0.1:$port/$name:checked" - | tar --extract --directory "$dir/root"
}

check() {
    local dir first
    dir=$(mktemp -d)
    unpack "$dir"
    grep -q '"User":"65532:65532"' "$dir/config.json" || fail "the image does not say its user: $(<"$dir/config.json")"
    # a user namespace, so that this needs no root; in it and in the new root there is nothing but the image
    unshare --user --map-user 65532 --map-group 65532 --root "$dir/root" "/usr/local/bin/$name" crds |
        diff - <(cat crds/chatbotversions.yaml crds/chatbotdeployments.yaml) ||
        fail "the binary does not print the CRDs"
    kill "$registry_pid"
    rm -rf "$dir"
    first=$(<"$out/digest")
    "${BASH_SOURCE[0]}" archive
    [[ $first == "$(<"$out/digest")" ]] || fail "a second archive has another digest"
    echo "checked: runs as 65532 in an empty root; twice the same digest"
}

dist() {
    local arch root
    rm -rf target/dist
    mkdir -p target/dist
    cp "$out/$name-$version.oci.tar" target/dist/
    for arch in amd64 arm64; do
        root=$out/$arch/root
        if [[ -d $root ]]; then
            cp "$root/usr/local/bin/$name" "target/dist/$name-linux-$arch"
            cp "$root/usr/share/doc/$name/sbom.cdx.json" "target/dist/$name-linux-$arch.cdx.json"
        fi
    done
}

case ${1:-} in
    root)
        shift
        (($#)) || set -- $(possible)
        for arch; do root "$arch"; done
        ;;
    archive | check | dist) "$1" ;;
    push) "$crane" push --index "$out/oci" "${2:?the reference, such as registry.example.com/$name:$version}" ;;
    *) fail "root [ARCH...], archive, check, dist or push REFERENCE" ;;
esac
