#!/bin/sh
# Writes the configuration of a router's daemon to standard output.
#   daemon-conf.sh bird|frr spoke|hub NAME numbered|unnumbered
set -eu
daemon=$1 role=$2 name=$3 kind=$4
HUB_AS=4200000100

case $name in
a) id=100.64.1.1 as=4200000001 ll=fe80::a n1=0 n2=1 ;;
c) id=100.64.3.1 as=4200000003 ll=fe80::c n1=2 n2=3 ;;
b1) id=100.64.0.1 as=$HUB_AS ll=fe80::b1 n1=0 n2=2 ;;
b2) id=100.64.0.2 as=$HUB_AS ll=fe80::b2 n1=1 n2=3 ;;
*) echo "daemon-conf.sh: unknown router '$name'" >&2; exit 2 ;;
esac

# The neighbours: session name, interface, AS, address of the other end (v4, v6, link-local), preference.
if [ "$role" = spoke ]; then
    neighbours="hub1 wg-b1 $HUB_AS 100.64.255.$((2 * n1)) fd64:ffff::$(printf %x $((2 * n1))) fe80::b1 200
hub2 wg-b2 $HUB_AS 100.64.255.$((2 * n2)) fd64:ffff::$(printf %x $((2 * n2))) fe80::b2 100"
else
    neighbours="spoke_a wg-a 4200000001 100.64.255.$((2 * n1 + 1)) fd64:ffff::$(printf %x $((2 * n1 + 1))) fe80::a 100
spoke_c wg-c 4200000003 100.64.255.$((2 * n2 + 1)) fd64:ffff::$(printf %x $((2 * n2 + 1))) fe80::c 100"
fi

bird_session() {
    echo "$neighbours" | while read -r session dev remote v4 v6 linklocal preference; do
        import="import filter { bgp_local_pref = $preference; accept; };"
        if [ "$kind" = numbered ]; then
            echo "protocol bgp $session from overlay { neighbor $v4 as $remote; ipv4 { $import export where of_this(); next hop self; }; }"
            echo "protocol bgp ${session}_6 from overlay { neighbor $v6 as $remote; ipv6 { $import export where of_this(); next hop self; }; }"
        else
            echo "protocol bgp $session from overlay { local $ll as $as; neighbor $linklocal%'$dev' as $remote;"
            echo "  ipv4 { $import export where of_this(); next hop self; extended next hop; }; ipv6 { $import export where of_this(); next hop self; }; }"
        fi
    done
}

bird() {
    table4="" table6=""
    echo 'log "/var/log/bird.log" all;'
    echo "router id $id;"
    if [ "$role" = spoke ]; then
        echo 'include "shortcut/shortcut.conf";'
        table4="table fib4;" table6="table fib6;"
        echo 'function of_this() { return source = RTS_DEVICE || proto ~ "site_*"; }'
        direct='interface "lo", "eth2";'
    else
        echo 'function of_this() { return source = RTS_DEVICE || source = RTS_BGP; }'
        direct='interface "lo";'
    fi
    cat <<CONF
protocol device { scan time 10; }
protocol direct { ipv4; ipv6; $direct }
protocol kernel { ipv4 { $table4 import none; export where source != RTS_DEVICE; }; merge paths on; }
protocol kernel { ipv6 { $table6 import none; export where source != RTS_DEVICE; }; merge paths on; }
protocol bfd { interface "wg-*" { interval 300 ms; multiplier 3; }; }
protocol radv { interface "wg-*" { max ra interval 4; min ra interval 3; default lifetime 0; }; }
template bgp overlay {
  local as $as; direct; hold time 9; connect delay time 1; connect retry time 2; error wait time 1, 5;
  graceful restart off; bfd on;
}
CONF
    bird_session
    if [ "$name" = a ]; then
        echo "protocol bgp site_ra { local 172.20.8.1 as $as; neighbor 172.20.8.2 as 65101; hold time 9; connect delay time 1; connect retry time 2;"
        echo "  ipv4 { import all; export all; next hop self; }; }"
    fi
}

frr() {
    cat <<CONF
frr defaults traditional
hostname $name
log file /var/log/frr/frr.log
service integrated-vtysh-config
!
router bgp $as
 bgp router-id $id
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 bgp route-map delay-timer 1
 neighbor OVERLAY peer-group
 neighbor OVERLAY timers 3 9
 neighbor OVERLAY timers connect 2
 neighbor OVERLAY bfd
CONF
    [ "$name" != a ] || printf ' neighbor 172.20.8.2 remote-as 65101\n neighbor 172.20.8.2 timers 3 9\n neighbor 172.20.8.2 timers connect 2\n'
    echo "$neighbours" | while read -r session dev remote v4 v6 linklocal preference; do
        if [ "$kind" = numbered ]; then
            for n in "$v4" "$v6"; do
                printf ' neighbor %s remote-as %s\n neighbor %s peer-group OVERLAY\n' "$n" "$remote" "$n"
            done
        else
            printf ' neighbor %s interface peer-group OVERLAY\n neighbor %s interface remote-as external\n' "$dev" "$dev"
        fi
    done
    for family in ipv4 ipv6; do
        echo " address-family $family unicast"
        if [ "$role" = spoke ] && [ $family = ipv4 ]; then
            case $name in
            a) printf '  network 172.20.1.0/24\n  network 172.20.8.0/30\n' ;;
            c) echo '  network 172.20.3.0/24' ;;
            esac
        elif [ "$role" = spoke ]; then
            case $name in
            a) echo '  network 2001:db8:a1::/64' ;;
            c) echo '  network 2001:db8:c1::/64' ;;
            esac
        fi
        [ $family = ipv6 ] && echo "  network fd64::$(echo "$id" | cut -d. -f3):$(echo "$id" | cut -d. -f4)/128" || echo "  network $id/32"
        [ $family = ipv6 ] || [ "$name" != a ] || printf '  neighbor 172.20.8.2 activate\n'
        echo "$neighbours" | while read -r session dev remote v4 v6 linklocal preference; do
            if [ "$kind" = unnumbered ]; then n=$dev; elif [ $family = ipv4 ]; then n=$v4; else n=$v6; fi
            printf '  neighbor %s activate\n  neighbor %s next-hop-self\n  neighbor %s route-map PREFER-%s in\n' "$n" "$n" "$n" "$preference"
            [ "$role" != spoke ] || printf '  neighbor %s route-map THIS-SITE out\n' "$n"
        done
        echo " exit-address-family"
    done
    cat <<CONF
exit
!
bfd
 profile overlay
 exit
exit
!
bgp as-path access-list OF-SITE seq 5 permit ^$
bgp as-path access-list OF-SITE seq 10 permit ^65101$
route-map THIS-SITE permit 10
 match as-path OF-SITE
exit
route-map PREFER-100 permit 10
 set local-preference 100
exit
route-map PREFER-200 permit 10
 set local-preference 200
exit
CONF
}

$daemon
