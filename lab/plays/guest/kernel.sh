#!/bin/sh
# Prints a directory with Debian's kernel for the guest, and makes it first when it is not there: `vmlinuz`, `initrd`, and
# `lib/modules`. Nothing is installed: the package is downloaded and unpacked into $SHORTCUTD_LAB_CACHE/kernel (default
# /var/cache/shortcutd-lab) under a temporary name, and renamed when it is complete. Two runs at once wait for each other.
# Status 3: QEMU or the kernel cannot be had; the last line of stderr says why.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${SHORTCUTD_LAB_CACHE:-/var/cache/shortcutd-lab}
initrd=$(cat "$here/init" "$0" | md5sum | cut -c 1-12)

# Modules that are needed before the root file system is there; the others are loaded when somebody asks for them.
EARLY='virtio_pci 9pnet_virtio 9p overlay'

say() {
    echo "guest: $*" >&2
}
refuse() {
    say "$*"
    exit 3
}

[ "$(uname -m)" = x86_64 ] || refuse "the guest is for x86-64, this machine is $(uname -m)"
[ "$(id -u)" = 0 ] || refuse "needs root"
mkdir -p "$cache/kernel"
exec 9> "$cache/kernel/.lock"
flock 9

work=$cache/kernel/.new
clean_up() {
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
clean_up

missing=
command -v qemu-system-x86_64 > /dev/null || missing="$missing qemu-system-x86"
busybox=$(command -v busybox) && "$busybox" depmod --help > /dev/null 2>&1 || missing="$missing busybox-static"
if [ -n "$missing" ]; then
    command -v apt-get > /dev/null || refuse "missing:$missing, and no apt-get to install them with"
    say "installing$missing"
    # shellcheck disable=SC2086
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
        > "$cache/kernel/install.log" 2>&1 9>&- || refuse "apt-get could not install:$missing"
    busybox=$(command -v busybox)
fi

# Whatever kernel is there is as good as any; a new one is fetched when there is none.
kernel=$(find "$cache/kernel" -maxdepth 1 -name 'linux-image-*' | sort | tail -n 1)
if [ -z "$kernel" ]; then
    package=$(apt-cache depends linux-image-amd64 2> /dev/null | sed -n 's/.*Depends: *\(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
    if [ -z "$package" ]; then
        apt-get update > "$cache/kernel/install.log" 2>&1 9>&- || true
        package=$(apt-cache depends linux-image-amd64 2> /dev/null | sed -n 's/.*Depends: *\(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
    fi
    [ -n "$package" ] || refuse "apt knows no package linux-image-amd64"
    say "fetching $package"
    mkdir "$work"
    (cd "$work" && apt-get download "$package") > "$cache/kernel/install.log" 2>&1 9>&- ||
        refuse "apt-get could not download $package"
    dpkg -x "$work"/*.deb "$work/package"
    mkdir -p "$work/kernel/lib"
    # Debian has them in /lib or in /usr/lib.
    for at in "$work/package/lib/modules" "$work/package/usr/lib/modules"; do
        [ ! -d "$at" ] || mv "$at" "$work/kernel/lib/modules"
    done
    mv "$work"/package/boot/vmlinuz-* "$work/kernel/vmlinuz"
    version=$(ls "$work/kernel/lib/modules")
    "$busybox" depmod -b "$work/kernel" "$version"
    kernel=$cache/kernel/$package
    mv "$work/kernel" "$kernel"
    clean_up
fi

if [ ! -e "$kernel/initrd-$initrd" ]; then
    version=$(ls "$kernel/lib/modules")
    modules=$kernel/lib/modules/$version
    mkdir -p "$work/root/bin" "$work/root/modules"
    cp "$busybox" "$work/root/bin/busybox"
    cp "$here/init" "$work/root/init"
    chmod 755 "$work/root/init"
    # modules.dep: `MODULE: WHAT IT NEEDS...`, nearest first; loaded from the back.
    for name in $EARLY; do
        line=$(grep -E "/$name\.ko[^:]*:" "$modules/modules.dep") || refuse "the kernel has no module $name"
        for file in $(echo "$line" | tr -d : | tr ' ' '\n' | tac); do
            grep -qxF "$file" "$work/order" 2> /dev/null || echo "$file" >> "$work/order"
        done
    done
    while read -r file; do
        cp "$modules/$file" "$work/root/modules/"
        basename "$file"
    done < "$work/order" > "$work/root/modules/order"
    (cd "$work/root" && find . | "$busybox" cpio -o -H newc 2> /dev/null | gzip -1) > "$work/initrd"
    rm -f "$kernel"/initrd-*
    mv "$work/initrd" "$kernel/initrd-$initrd"
    ln -sf "initrd-$initrd" "$kernel/initrd"
fi
echo "$kernel"
