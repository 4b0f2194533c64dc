#!/bin/sh
# A WireGuard interface for one neighbour. Keys are made at lab start in the directory KEYS and never leave it.
#   tunnel.sh create IFACE PORT            a key pair and the interface, without a peer and without multicast
#   tunnel.sh peer IFACE NODE.IFACE ARGS   adds the other end (waits until it has published its key); ARGS as of `wg set ... peer`
#   tunnel.sh up IFACE                     says that this end has its peer
#   tunnel.sh dial IFACE NODE.IFACE ARGS   as `peer`, once the other end is up: an early initiation is repeated after 5 s only
set -eu
KEYS=${KEYS:-/run/lab-keys}
me=$(hostname)
verb=$1
dev=$2

await() {
    tries=0
    until [ -e "$1" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 1200 ]; then
            echo "tunnel.sh: $1 did not appear within 60 s" >&2
            exit 1
        fi
        sleep 0.05
    done
}

case $verb in
create)
    umask 077
    wg genkey > "$KEYS/$me.$dev.key"
    wg pubkey < "$KEYS/$me.$dev.key" > "$KEYS/$me.$dev.pub.new"
    if ! ip link add "$dev" type wireguard 2>/dev/null; then
        wireguard-go "$dev" < /dev/null > "/var/log/wireguard-go-$dev.log" 2>&1
    fi
    wg set "$dev" private-key "$KEYS/$me.$dev.key" listen-port "$3"
    mv "$KEYS/$me.$dev.pub.new" "$KEYS/$me.$dev.pub"
    ;;
up)
    touch "$KEYS/$me.$dev.up"
    ;;
peer | dial)
    other=$3
    shift 3
    [ "$verb" = peer ] || await "$KEYS/$other.up"
    await "$KEYS/$other.pub"
    wg set "$dev" peer "$(cat "$KEYS/$other.pub")" allowed-ips 0.0.0.0/0,::/0 "$@"
    ;;
*)
    echo "usage: tunnel.sh create IFACE PORT | tunnel.sh {peer|dial} IFACE NODE.IFACE ARGS... | tunnel.sh up IFACE" >&2
    exit 2
    ;;
esac
