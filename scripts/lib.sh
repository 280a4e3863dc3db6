# Shared by the scripts: where we are, and Debian packages that are missing. Sourced by bash.
# A package that Debian's releases name differently is written a|b; one that some of them lack ends in `?`, and
# what needs it is skipped there.

set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

build_packages="gcc libc6-dev meson ninja-build pkg-config libfuse3-dev fuse3 libcurl4-openssl-dev
	libssl-dev libjansson-dev libyaml-dev libcmocka-dev"
server_packages="python3 python3-yaml python3-cryptography"
demo_packages="jq curl"
test_packages="python3-pytest python3-pytest-xdist python3-prometheus-client procps jq curl rsync git grep findutils tar attr e2fsprogs libasan8|libasan6 libubsan1 libtsan2|libtsan0 util-linux
	bsdutils coreutils diffutils perl gawk moreutils patch dos2unix zip unzip yq? libglib2.0-bin
	man-db mandoc bash-completion zsh fish
	busybox toybox? cpio libarchive-tools rust-coreutils? openssh-client openssh-sftp-server
	inotify-tools entr python3-watchdog fswatch tmux vim vim-tiny neovim nano emacs-nox micro joe ne mg kakoune mc ed"
check_packages="clang clang-format clang-tidy python3 binutils"
fuzz_packages="clang libclang-rt-14-dev|libclang-rt-dev?"
valgrind_packages="valgrind libc6-dbg"

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Which of a|b to install: the first that this release has.
choose_package() {
	local names name
	IFS='|' read -ra names <<<"${1%\?}"
	for name in "${names[@]}"; do
		[ -n "$(apt-cache madison "$name" 2>/dev/null)" ] && echo "$name" && return
	done
	case $1 in
	*\?) echo "not in this release: ${names[*]}" >&2 ;;
	*) echo "${names[0]}" ;; # apt-get says what is wrong with it
	esac
}

# install PACKAGE...: those that aren't there yet.
install_packages() {
	local package name names missing=() chosen
	for package in "$@"; do
		IFS='|' read -ra names <<<"${package%\?}"
		for name in "${names[@]}"; do
			is_installed "$name" && continue 2
		done
		missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return
	as_root apt-get update -qq
	chosen=$(for package in "${missing[@]}"; do choose_package "$package"; done)
	[ -n "$chosen" ] || return 0
	# shellcheck disable=SC2086
	echo "installing:" $chosen
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $chosen >/dev/null
}

# /dev/fuse is for everybody on an ordinary Debian.
open_dev_fuse() {
	[ -e /dev/fuse ] || as_root modprobe fuse
	[ "$(stat -c %a /dev/fuse)" = 666 ] || as_root chmod 0666 /dev/fuse # root can always write there
}

# Runs it; what it said is shown only if it fails.
quietly() {
	local said
	said=$("$@" 2>&1) || { printf '%s\n' "$said"; return 1; }
}

# build DIRECTORY [MESON OPTION...]
build() {
	local directory=$1
	shift
	[ -f "$directory/build.ninja" ] || quietly meson setup "$directory" "$@"
	quietly ninja -C "$directory"
}

# The program alone, without sanitizers, in build/.
build_program() {
	[ -f build/build.ninja ] || quietly meson setup build
	quietly ninja -C build fs/imagestreamfs
}
