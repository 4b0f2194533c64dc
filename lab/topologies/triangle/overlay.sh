#!/bin/sh
# The overlay interface wg0 of one router. Keys are made at lab start in the directory KEYS and never leave it.
#   overlay.sh create            a key pair and the interface, still without peers
#   overlay.sh peer NAME ARGS... adds router NAME (waits until it has published its key); ARGS as of `wg set ... peer`
#   overlay.sh open              says that this router's peers are there
#   overlay.sh dial NAME ARGS... as `peer`, once NAME is open: an initiation that comes too early is repeated after 5 s only
set -eu
KEYS=${KEYS:-/run/lab-keys}
me=$(hostname)

await() {
    tries=0
    until [ -e "$1" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            echo "overlay.sh: $1 did not appear within 30 s" >&2
            exit 1
        fi
        sleep 0.05
    done
}

case ${1:-} in
create)
    umask 077
    wg genkey > "$KEYS/$me.key"
    # Renamed into place: a reader sees the whole key or none.
    wg pubkey < "$KEYS/$me.key" > "$KEYS/$me.pub.new"
    if ! ip link add wg0 type wireguard 2>/dev/null; then
        # No WireGuard in this kernel. The daemon must not keep our output open.
        wireguard-go wg0 < /dev/null > /var/log/wireguard-go.log 2>&1
    fi
    wg set wg0 private-key "$KEYS/$me.key" listen-port 51820
    mv "$KEYS/$me.pub.new" "$KEYS/$me.pub"
    ;;
open)
    touch "$KEYS/$me.open"
    ;;
peer)
    peer=$2
    shift 2
    await "$KEYS/$peer.pub"
    wg set wg0 peer "$(cat "$KEYS/$peer.pub")" "$@"
    ;;
dial)
    peer=$2
    shift 2
    await "$KEYS/$peer.open"
    wg set wg0 peer "$(cat "$KEYS/$peer.pub")" "$@"
    ;;
*)
    echo "usage: overlay.sh create | overlay.sh {peer|dial} NAME ARGS... | overlay.sh open" >&2
    exit 2
    ;;
esac
