#!/bin/sh
# What a NAT box of lab/nat.clab.yml does, from now on: mappings that it has are for the caller to flush.
#   nat.sh KIND WAN INSIDE [hairpin]   KIND of the list below, WAN its interface to the outside, INSIDE the spoke behind it
#   nat.sh on-inet ADDRESS             waits until ADDRESS answers
# The direct interface's port is mapped statically where a mapping shall be endpoint-independent: nftables itself has no such NAT.
set -eu
kind=$1
if [ "$kind" = on-inet ]; then
    tries=0
    until ping -n -c 1 -W 1 "$2" > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -le 300 ] || { echo "nat.sh: $2 does not answer" >&2; exit 1; }
        sleep 0.1
    done
    exit 0
fi
wan=$2
inside=$3
hairpin=${4:-}
port=51821
public=$(ip -4 -o address show dev "$wan" | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -n 1)

filter= snat= dnat= input= masquerade=masquerade
# Unsolicited packets to the NAT itself are dropped, as a router's firewall does; `masquerade-open` is one without.
drop="iifname \"$wan\" ct state new udp dport != 53 drop"
snat_static="oifname \"$wan\" ip saddr $inside udp sport $port snat to $public:$port"
case $kind in
masquerade) input=$drop ;;
masquerade-open) ;;
random) input=$drop masquerade="masquerade fully-random" ;;
ei-ei)
    snat=$snat_static input=$drop
    dnat="ip daddr $public udp dport $port dnat to $inside:$port"
    ;;
ei-ad)
    snat=$snat_static input=$drop
    filter="oifname \"$wan\" ip saddr $inside udp sport $port update @addresses { ip daddr }"
    dnat="ip daddr $public ip saddr @addresses udp dport $port dnat to $inside:$port"
    ;;
ei-apd)
    snat=$snat_static input=$drop
    filter="oifname \"$wan\" ip saddr $inside udp sport $port update @endpoints { ip daddr . udp dport }"
    dnat="ip daddr $public ip saddr . udp sport @endpoints udp dport $port dnat to $inside:$port"
    ;;
forwarded)
    input=$drop
    dnat="ip daddr $public udp dport $port dnat to $inside:$port"
    ;;
*)
    echo "nat.sh: unknown kind '$kind'" >&2
    exit 2
    ;;
esac
# A hairpinning NAT translates what comes from inside to its own public address as if it came from outside.
loop=
[ "$hairpin" != hairpin ] || loop="ip daddr != $public ct status dnat oifname != \"$wan\" masquerade"

nft -f - <<RULES
table ip nat
delete table ip nat
table ip nat {
  set addresses { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 120s; }
  set endpoints { type ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
  chain contacted { type filter hook postrouting priority srcnat - 10; $filter; }
  chain pre { type nat hook prerouting priority dstnat; $dnat; }
  chain post { type nat hook postrouting priority srcnat; $snat; $loop; oifname "$wan" $masquerade; }
  chain input { type filter hook input priority filter; $input; }
}
RULES
