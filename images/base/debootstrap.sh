#!/bin/sh
# Makes what `python:3.11-slim-bookworm` would bring, from Debian's packages, where no image registry can be reached.
# usage: debootstrap.sh ARCHIVE.tar [MIRROR]
set -eu
archive=$1
mirror=${2:-}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root" $mirror >&2
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/doc/* \
    "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/dev/*
tar -C "$root" --numeric-owner -cf "$archive.new" .
mv "$archive.new" "$archive"
