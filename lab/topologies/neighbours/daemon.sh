#!/bin/sh
# A routing daemon of the lab with neighbours of every kind, configured for a hub in AS HUB_AS (65000: the hub session is iBGP).
#   daemon.sh {bird|frr} CONF HUB_AS [shortcut]     as ../triangle/daemon.sh; CONF is beside this script
set -eu
REPO=${REPO:-/run/lab}
kind=$1
hub_as=$3
rr_client='rr client;'
[ "$hub_as" = 65000 ] || rr_client=
# bgpd sends an external hub its own routes back, and an offer is the same route to it: a map would take it away.
not_to_hub=
[ "$hub_as" = 65000 ] || not_to_hub='/route-map SHORTCUT-NOT-TO-HUB out/d'
sed "s/HUB_AS/$hub_as/; s/RR_CLIENT/$rr_client/; $not_to_hub" "$REPO/lab/topologies/neighbours/$2" > /run/daemon.conf
REPO=$REPO sh "$REPO/lab/topologies/triangle/daemon.sh" "$kind" ../daemon.conf "${4:-}"
if [ "$kind" = frr ] && [ "$hub_as" != 65000 ]; then
    # The offers session has the type of the session with the hub.
    sed "s/64999/$hub_as/" "$REPO/frr-config/shortcut-ebgp.conf" > /run/ebgp.conf
    vtysh -f /run/ebgp.conf > /dev/null 2>&1
    echo "bgp: { as: 65000, offers-as: $hub_as }" > /run/bgp.yaml
fi
