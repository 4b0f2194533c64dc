#!/bin/sh
# Prints the path of a Debian root that holds one package, and builds it first when it is not there:
#   root.sh SUITE PACKAGE      root.sh trixie bird3
# Roots are kept outside the repository, in $SHORTCUTD_LAB_CACHE/roots/SUITE-PACKAGE (default /var/cache/shortcutd-lab), each made
# under a temporary name and renamed when it is complete. Two runs at once wait for each other. Status 3: Debian's mirror has
# no such suite, no such package, or cannot be reached; the last line of stderr says which.
set -eu
suite=$1
package=$2
cache=${SHORTCUTD_LAB_CACHE:-/var/cache/shortcutd-lab}
mirror=${SHORTCUTD_LAB_MIRROR:-http://deb.debian.org/debian}
root=$cache/roots/$suite-$package
base=$cache/roots/$suite

say() {
    echo "root: $*" >&2
}

if [ -e "$root" ]; then
    echo "$root"
    exit 0
fi
[ "$(id -u)" = 0 ] || {
    say "needs root"
    exit 1
}
mkdir -p "$cache/roots"
# Who comes second finds the root made.
exec 9> "$cache/roots/.lock-$suite"
flock 9

work=$cache/roots/.new-$suite-$package
log=$cache/roots/$suite-$package.log
clean_up() {
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Why something failed, in one line. What apt and debootstrap say about a mirror is not a defect of ours.
refuse() {
    say "$1: $(grep -aE '^(E|W|Err):' "$log" | tail -n 1 || true)"
    say "see $log"
    say "$1"
    exit 3
}

if [ ! -e "$base" ]; then
    if ! command -v debootstrap > /dev/null; then
        say "installing debootstrap"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap; } \
            > "$log" 2>&1 9>&- || refuse "apt-get could not install debootstrap"
    fi
    say "debootstrap $suite"
    clean_up
    # minbase first, the package afterwards: --include would configure it before what it needs.
    debootstrap --variant=minbase "$suite" "$work" "$mirror" > "$log" 2>&1 9>&- ||
        refuse "debootstrap has no $suite from $mirror"
    printf '#!/bin/sh\nexit 101\n' > "$work/usr/sbin/policy-rc.d"
    chmod 755 "$work/usr/sbin/policy-rc.d"
    # A root that is lost with the machine's power is built again.
    echo force-unsafe-io > "$work/etc/dpkg/dpkg.cfg.d/lab"
    mv "$work" "$base"
fi

if [ ! -e "$root" ]; then
    say "install $package in $suite"
    clean_up
    cp -a --reflink=auto "$base" "$work"
    cp /etc/resolv.conf "$work/etc/resolv.conf"
    # /proc of a mount namespace of its own: nothing to unmount, however this ends.
    unshare --mount --pid --fork --kill-child sh -c '
        mount -t proc proc "$1/proc"
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C
        # Signatures are checked; how old the mirror is, by this machine'"'"'s clock, is not a reason to test nothing.
        chroot "$1" apt-get -o Acquire::Check-Valid-Until=false update &&
        chroot "$1" apt-get install -y --no-install-recommends "$2"
    ' sh "$work" "$package" > "$log" 2>&1 9>&- || refuse "$suite has no installable $package"
    rm -rf "$work/var/cache/apt/archives" "$work/var/lib/apt/lists" "$work/usr/share/doc" "$work/usr/share/locale"
    mv "$work" "$root"
fi
echo "$root"
