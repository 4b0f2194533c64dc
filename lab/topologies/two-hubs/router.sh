#!/bin/sh
# Starts daemon and shortcutd's configuration of one router, as an operator would have set them up.
#   router.sh bird|frr spoke|hub NAME numbered|unnumbered
set -eu
REPO=${REPO:-/run/lab}
daemon=$1 role=$2 name=$3 kind=$4
HUB_AS=4200000100
here=$REPO/lab/topologies
sh "$here/two-hubs/daemon-conf.sh" "$@" > /run/daemon.conf

shortcut=
[ "$role" = hub ] || [ "$daemon" = frr ] || shortcut=shortcut
if [ "$daemon" = bird ] && [ "$role" = spoke ]; then
    mkdir -p /etc/bird/shortcut
fi
case $name in
a) as=4200000001 id=100.64.1.1 ;;
c) as=4200000003 id=100.64.3.1 ;;
b1) as=$HUB_AS id=100.64.0.1 ;;
b2) as=$HUB_AS id=100.64.0.2 ;;
esac
if [ -n "$shortcut" ]; then
    # BIRD reads the files when it starts: they are edited first
    cp "$REPO"/bird-config/*.conf /etc/bird/shortcut/
    sed -i "s/SHORTCUT_AS = .*/SHORTCUT_AS = $as;/; s/SHORTCUT_HUB4 = .*/SHORTCUT_HUB4 = 100.64.0.1;/; s/SHORTCUT_HUB6 = .*/SHORTCUT_HUB6 = fd64::0:1;/" \
        /etc/bird/shortcut/shortcut-defines.conf
fi
sh "$here/triangle/daemon.sh" "$daemon" ../daemon.conf
if [ "$daemon" = frr ] && [ "$role" = spoke ]; then
    for f in shortcut.conf shortcut-ebgp.conf; do
        sed "s/65000/$as/g; s/64999/$HUB_AS/g" "$REPO/frr-config/$f" > /run/shortcut-frr.conf
        vtysh -f /run/shortcut-frr.conf
    done
fi

mkdir -p /etc/shortcutd /run/shortcutd
mkdir -p -m 700 /var/lib/shortcutd
if [ "$role" = hub ]; then
    cat > /etc/shortcutd/shortcutd.yaml <<YAML
role: hub
overlay: "wg-*"
address: $id
YAML
else
    offers=
    [ "$daemon" = bird ] || offers=", offers-as: $HUB_AS"
    cat > /etc/shortcutd/shortcutd.yaml <<YAML
role: spoke
overlay: [wg-b1, wg-b2]
address: $id
hubs: [100.64.0.1, 100.64.0.2]
daemon: $daemon
bgp: { as: $as$offers }
trigger: { rate: 2 Mbit/s, for: 2 s }
YAML
fi
