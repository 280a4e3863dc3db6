# Shared by the scripts: where we are, and Debian packages that are missing. Sourced by bash.

set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

build_packages="gcc libc6-dev meson ninja-build pkg-config libfuse3-dev fuse3 libcurl4-openssl-dev
	libssl-dev libjansson-dev libyaml-dev libcmocka-dev"
server_packages="python3 python3-yaml python3-cryptography"
demo_packages="jq curl"
test_packages="python3-pytest python3-pytest-xdist python3-prometheus-client procps jq curl rsync git grep findutils tar attr e2fsprogs libasan8 libubsan1 libtsan2 util-linux
	bsdutils coreutils diffutils perl gawk moreutils patch dos2unix zip unzip yq libglib2.0-bin
	man-db mandoc bash-completion zsh fish
	busybox toybox cpio libarchive-tools rust-coreutils openssh-client openssh-sftp-server
	inotify-tools entr python3-watchdog fswatch tmux vim vim-tiny neovim nano emacs-nox micro joe ne mg kakoune mc ed"
check_packages="clang clang-format clang-tidy python3 binutils"
fuzz_packages="clang libclang-rt-14-dev"
valgrind_packages="valgrind libc6-dbg"

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install PACKAGE...: those that aren't there yet.
install_packages() {
	local package missing=()
	for package in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return
	echo "installing: ${missing[*]}"
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# /dev/fuse is for everybody on an ordinary Debian.
open_dev_fuse() {
	[ -e /dev/fuse ] || as_root modprobe fuse
	[ "$(stat -c %a /dev/fuse)" = 666 ] || as_root chmod 0666 /dev/fuse # root can always write there
}

# build DIRECTORY [MESON OPTION...]
build() {
	local directory=$1
	shift
	[ -f "$directory/build.ninja" ] || meson setup "$directory" "$@" >/dev/null
	ninja -C "$directory" --quiet
}

# The program alone, without sanitizers, in build/.
build_program() {
	[ -f build/build.ninja ] || meson setup build >/dev/null
	ninja -C build --quiet fs/imagestreamfs
}
