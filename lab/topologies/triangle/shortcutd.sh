#!/bin/sh
# shortcutd of one router, as its operator would have set it up.
#   shortcutd.sh install ROUTER DAEMON   ROUTER.yaml becomes /etc/shortcutd/shortcutd.yaml, for this routing daemon
#   shortcutd.sh start ROUTER DAEMON     the same, and starts it in the background; it logs to /var/log/shortcutd.log
# REPO is where this repository, built, is mounted in the node.
set -eu
REPO=${REPO:-/run/lab}
verb=$1
router=$2
daemon=$3

mkdir -p /etc/shortcutd /run/shortcutd
mkdir -p -m 700 /var/lib/shortcutd
# A hub's file names no daemon.
sed "s/^daemon: .*/daemon: $daemon/" "$REPO/lab/topologies/triangle/$router.yaml" > /etc/shortcutd/shortcutd.yaml
# A daemon in a root of its own (daemon.sh) has its sockets there.
if [ -n "${DAEMON_ROOT:-}" ] && grep -q '^daemon:' /etc/shortcutd/shortcutd.yaml; then
    case $daemon in
    bird) socket=/run/daemon/run/bird/bird.ctl ;;
    *) socket=/run/daemon/run/frr ;;
    esac
    echo "daemon-socket: $socket" >> /etc/shortcutd/shortcutd.yaml
fi

# What the lab's daemons need to be told beside that.
[ ! -e /run/bgp.yaml ] || sed -i "s/^bgp: .*/$(cat /run/bgp.yaml)/" /etc/shortcutd/shortcutd.yaml

case $verb in
install) ;;
start)
    setsid node "$REPO/dist/plugin/main.js" run -c /etc/shortcutd/shortcutd.yaml \
        < /dev/null > /var/log/shortcutd.log 2>&1 &
    ;;
*)
    echo "usage: shortcutd.sh {install|start} ROUTER {bird|frr}" >&2
    exit 2
    ;;
esac
