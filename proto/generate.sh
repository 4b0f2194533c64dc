#!/bin/sh
# Writes the static protobuf code into the folder given, deterministically.
set -eu
out=$1
mkdir -p "$out"
node_modules/.bin/pbjs -t static-module -w esm --dts --null-semantics --no-service --no-typeurl \
  --no-convert --no-verify --no-delimited -o "$out/shortcutd.js" proto/shortcutd.proto
