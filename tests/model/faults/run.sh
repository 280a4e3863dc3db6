#!/usr/bin/env bash
# Applies each patch to a copy of the sources, builds it, and expects the model test to find the fault.
# The seed (from 1) says how many sequences that took. Arguments: patches (all).
. "$(dirname "$0")/../../../scripts/lib.sh"
copy=$(mktemp -d /var/tmp/imagestreamfs-faults-XXXXXX)
trap 'rm -rf "$copy"' EXIT
cp -r client fs meson.build meson_options.txt tests scripts "$copy"
cd "$copy"
meson setup build -Db_sanitize=address,undefined >/dev/null
status=0
[ $# -gt 0 ] || set -- "$top"/tests/model/faults/*.patch
for patch in "$@"; do
	name=$(basename "$patch" .patch)
	patch -s -p1 <"$patch"
	ninja -C build --quiet fs/imagestreamfs
	if IMAGESTREAMFS=$copy/build/fs/imagestreamfs /usr/bin/python3 "$top/tests/model/run.py" \
		--jobs 1 --seed 1 --sequences 100 --shrink 20 >"$name.out" 2>&1; then
		echo "$name: not found"
		status=1
	else
		echo "$name: $(grep -m 1 -E '^seed [0-9]+:|nodes are left|^Traceback' "$name.out" | cut -c 1-200)"
		grep -E '^in [0-9]+ steps' "$name.out" | cut -c 1-200
	fi
	patch -s -R -p1 <"$patch"
done
exit $status
