#!/bin/sh
# Bring what the GPU machine lacks: benchmarks/gpu/fetch.sh FOLDER, with cifar10/ and caltech/ in it, each with
# train.parquet and test.parquet. Wheels for Python 3.12 on x86-64 and the images go into folders that git ignores, 40 MB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
platforms=""
for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
    platforms="$platforms --platform ${name}_x86_64"
done
rm -rf "$here/wheels" "$here/data"
mkdir -p "$here/data"
# shellcheck disable=SC2086
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp $platforms \
    -d "$here/wheels" -r "$here/carried.txt"
for name in cifar10 caltech; do
    mkdir "$here/data/$name"
    cp "$1/$name/train.parquet" "$1/$name/test.parquet" "$here/data/$name/"
done
git -C "$here" rev-parse HEAD >"$here/data/commit"  # a copy of the tree elsewhere may have no history
du -sh "$here/wheels" "$here/data"
