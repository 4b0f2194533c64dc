#!/bin/sh
# What a fresh Debian 12 with Node 20 needs to build shortcutd and to run its labs: Debian packages, npm packages, the
# build. Each step only when something is missing; services are neither started nor stopped.
set -eu
cd "$(dirname "$0")/.."

die() {
    echo "setup: $*" >&2
    exit 1
}
say() {
    echo "setup: $*"
}

# Command that shows that a package is there, and the package.
NEEDED='
bird:bird2
birdc:bird2
/usr/lib/frr/bgpd:frr
vtysh:frr
wg:wireguard-tools
wireguard-go:wireguard-go
nft:nftables
ip:iproute2
ping:iputils-ping
traceroute:traceroute
tcpdump:tcpdump
unshare:util-linux
nsenter:util-linux
ps:procps
setpriv:util-linux
systemd-sysusers:systemd
usermod:passwd
python3:python3-minimal
'

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
[ "$(id -u)" = 0 ] || die "needs root: it installs packages, and labs make network namespaces (try: sudo $0)"

missing=
for entry in $NEEDED; do
    command -v "${entry%%:*}" > /dev/null 2>&1 || missing="$missing ${entry#*:}"
done
if [ -n "$missing" ]; then
    missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    command -v apt-get > /dev/null || die "missing: $missing(and no apt-get to install them with)"
    say "installing $missing"
    log=$(mktemp)
    policy=/usr/sbin/policy-rc.d
    made_policy=
    # Debian starts a service when it installs it, unless this file says 101. Somebody else's is left alone.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    clean_up() {
        [ -z "$made_policy" ] || rm -f "$policy"
        rm -f "$log"
    }
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    export DEBIAN_FRONTEND=noninteractive
    # Recommends would pull in a kernel image (wireguard-tools).
    # shellcheck disable=SC2086
    if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get could not install: $missing"
    fi
    clean_up
    trap - EXIT INT TERM
fi

command -v node > /dev/null || die "no node on PATH: install Node 20.19 or later"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    die "Node 20.19 or later is needed, this is $(node --version)"
command -v npm > /dev/null || die "no npm on PATH"

# npm writes node_modules/.package-lock.json last: newer than the lock file means complete and current.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    say "npm ci"
    log=$(mktemp)
    if ! npm ci --no-audit --no-fund > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "npm ci failed"
    fi
    rm -f "$log"
    touch node_modules/.package-lock.json
fi

# The build is current when no source is newer than its stamp.
stamp=dist/.built
if [ ! -e "$stamp" ] || [ -n "$(find plugin lab proto test package.json tsconfig.json \
    -path lab/out -prune -o -path plugin/wire/control/pb -prune -o -newer "$stamp" -type f -print | head -n 1)" ]; then
    say "npm run build"
    started=$(mktemp)
    npm run -s build || { rm -f "$started"; die "the build failed"; }
    # The stamp has the time at which the build began: what changed meanwhile is built next time.
    touch -r "$started" "$stamp"
    rm -f "$started"
fi
