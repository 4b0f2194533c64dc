#!/bin/sh
# What a NAT box of lab/topologies/nat.clab.yml does, from now on: mappings that it has are for the caller to flush.
#   nat.sh KIND WAN INSIDE [OTHER]   KIND of the list below, WAN its interface to the outside, INSIDE the spoke behind it
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
port=51821
public=$(ip -4 -o address show dev "$wan" | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -n 1)

filter= snat= dnat= input= masquerade=masquerade
isolate=
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
shared | shared-hairpin)
    # Two spokes behind one NAT, on segments that do not reach each other: INSIDE has port 51821, OTHER port 51822.
    other=${4:?OTHER}
    input=$drop
    from=$([ "$kind" = shared ] && echo "iifname \"$wan\"" || echo "")
    dnat="$from ip daddr $public udp dport $port dnat to $inside:$port
          $from ip daddr $public udp dport 51822 dnat to $other:$port"
    snat="oifname \"$wan\" ip saddr $inside udp sport $port snat to $public:$port
          oifname \"$wan\" ip saddr $other udp sport $port snat to $public:51822
          oifname != \"$wan\" ct status dnat ip saddr $inside udp sport $port snat to $public:$port
          oifname != \"$wan\" ct status dnat ip saddr $other udp sport $port snat to $public:51822"
    isolate="iifname != \"$wan\" oifname != \"$wan\" ct status dnat accept
          iifname != \"$wan\" oifname != \"$wan\" drop"
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
nft -f - <<RULES
table ip nat
delete table ip nat
table ip nat {
  set addresses { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 120s; }
  set endpoints { type ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
  chain contacted { type filter hook postrouting priority srcnat - 10; $filter
  }
  chain pre { type nat hook prerouting priority dstnat; $dnat
  }
  chain post { type nat hook postrouting priority srcnat; $snat
    oifname "$wan" $masquerade; }
  chain isolate { type filter hook forward priority filter; $isolate
  }
  chain input { type filter hook input priority filter; $input
  }
}
RULES
