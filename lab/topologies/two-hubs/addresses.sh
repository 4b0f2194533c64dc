#!/bin/sh
# Gives an end of a tunnel its addresses: the link's number N is that of the tunnel.
#   addresses.sh numbered IFACE N 0|1 LL     a /31 and a /127, and the link-local address LL
#   addresses.sh unnumbered IFACE N 0|1 LL   the link-local address alone
set -eu
kind=$1 dev=$2 n=$3 end=$4 ll=$5
ip link set "$dev" mtu 1380 up
ip address add "$ll/64" dev "$dev" nodad
[ "$kind" = numbered ] || exit 0
ip address add "100.64.255.$((2 * n + end))/31" dev "$dev"
ip address add "fd64:ffff::$(printf %x $((2 * n + end)))/127" dev "$dev" nodad
