#!/usr/bin/env bash
# Installs what Tessera needs to build and run on Debian 12 or a relative of it, and nothing more.
# Does nothing, quickly, where all of it is there. Says what is missing and why before it touches anything.
set -euo pipefail

# package               what for
PACKAGES=(
  "g++                  C++20 compiler"
  "cmake                build"
  "ninja-build          build"
  "make                 the commands of the README"
  "pkg-config           finding libraries"
  "ccache               rebuilding in seconds"
  "python3              generating tables, tests of the wire"
  "libgrpc++-dev        the gRPC server and client"
  "libprotobuf-dev      the messages on the wire"
  "protobuf-compiler    generating code from proto/"
  "protobuf-compiler-grpc  generating code from proto/"
  "libspdlog-dev        logging"
  "libfmt-dev           formatting text"
  "libgtest-dev         tests"
  "libgmock-dev         tests"
  "libbenchmark-dev     benchmarks"
  "nlohmann-json3-dev   JSON"
  "libcli11-dev         command lines"
  "libexpected-dev      Result<T>"
  "libjpeg-dev          JPEG pictures"
  "libpng-dev           PNG pictures"
  "libwebp-dev          WebP pictures"
  "libpcre2-dev         tokenizer patterns"
  "libutf8proc-dev      Unicode normal forms"
  "libssl-dev           SHA-256 digests"
  "zlib1g-dev           PNG pictures"
)

command -v dpkg-query >/dev/null || {
  echo "install_deps: this is not a Debian system; install the equivalents of:" >&2
  printf '  %s\n' "${PACKAGES[@]}" >&2
  exit 1
}

missing=()
for line in "${PACKAGES[@]}"; do
  name=${line%% *}
  dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$line")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Tessera needs these Debian packages, which are not installed:"
printf '  %s\n' "${missing[@]}"
if [ "$(id -u)" -eq 0 ]; then
  sudo=()
elif command -v sudo >/dev/null; then
  sudo=(sudo)
else
  echo "install_deps: neither root nor sudo here; as root, run: apt-get install ${missing[*]%% *}" >&2
  exit 1
fi
names=()
for line in "${missing[@]}"; do names+=("${line%% *}"); done
echo "Installing them with apt-get."
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}"
