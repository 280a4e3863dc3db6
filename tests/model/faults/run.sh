#!/usr/bin/env bash
# Applies each patch to a copy of the sources, builds it, and expects the model test to find the fault. The program
# without a fault has to pass the same seeds first: else a failure shows nothing.
# Arguments: patches (all). SEQUENCES (60) says how many are run, from seed 1.
. "$(dirname "$0")/../../../scripts/lib.sh"
copy=$(mktemp -d /var/tmp/imagestreamfs-faults-XXXXXX)
trap 'rm -rf "$copy"' EXIT
cp -r client fs meson.build meson_options.txt tests scripts "$copy"
cd "$copy"
meson setup build >/dev/null

# run NAME: whether the model test finds nothing; what it says is in NAME.out.
run() {
	ninja -C build --quiet fs/imagestreamfs
	IMAGESTREAMFS=$copy/build/fs/imagestreamfs /usr/bin/python3 "$top/tests/model/run.py" \
		--jobs 2 --seed 1 --sequences "${SEQUENCES:-60}" --shrink 20 >"$1.out" 2>&1
}

found() {
	grep -m 1 -E '^seed [0-9]+:|nodes are left|^Traceback' "$1.out" | cut -c 1-200
	grep -E '^in [0-9]+ steps' "$1.out" | cut -c 1-200 || true
}

if ! run none; then
	echo "without a fault: $(found none)"
	exit 1
fi
echo "without a fault: nothing found"
status=0
[ $# -gt 0 ] || set -- "$top"/tests/model/faults/*.patch
for patch in "$@"; do
	name=$(basename "$patch" .patch)
	patch -s -p1 <"$patch"
	if run "$name"; then
		echo "$name: not found"
		status=1
	else
		echo "$name: $(found "$name")"
	fi
	patch -s -R -p1 <"$patch"
done
exit $status
