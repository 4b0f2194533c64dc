#!/bin/sh
# Starts the routing daemon of one router as an operator would have set it up.
#   daemon.sh bird CONF [shortcut]    bird.conf, and with `shortcut` the files of bird-config/ beside it
#   daemon.sh frr  CONF [shortcut]    frr.conf, and with `shortcut` frr-config/shortcut.conf loaded and saved
# REPO is where this repository is mounted in the node. Daemons keep their caller's output open: it is redirected.
set -eu
REPO=${REPO:-/run/lab}
kind=$1
conf=$2
shortcut=${3:-}

case $kind in
bird)
    mkdir -p /run/bird /etc/bird/shortcut
    cp "$REPO/$conf" /etc/bird/bird.conf
    [ -z "$shortcut" ] || cp "$REPO"/bird-config/*.conf /etc/bird/shortcut/
    touch /var/log/bird.log
    chown -R bird:bird /run/bird /etc/bird /var/log/bird.log
    bird -p -c /etc/bird/bird.conf
    bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid \
        < /dev/null > /var/log/bird.out 2>&1
    ;;
frr)
    mkdir -p /run/frr /var/log/frr
    chown frr:frr /run/frr /var/log/frr
    cp "$REPO/$conf" /etc/frr/frr.conf
    echo 'service integrated-vtysh-config' > /etc/frr/vtysh.conf
    chown frr:frr /etc/frr/frr.conf /etc/frr/vtysh.conf
    # mgmtd is new in 8.5; it has to be there before zebra.
    for daemon in mgmtd zebra staticd bgpd; do
        [ -x "/usr/lib/frr/$daemon" ] || continue
        "/usr/lib/frr/$daemon" -d -A 127.0.0.1 < /dev/null > "/var/log/frr/$daemon.out" 2>&1
    done
    vtysh -b < /dev/null > /var/log/frr/vtysh.out 2>&1 || { cat /var/log/frr/vtysh.out >&2; exit 1; }
    if [ -n "$shortcut" ]; then
        vtysh -f "$REPO/frr-config/shortcut.conf" < /dev/null > /var/log/frr/shortcut.out 2>&1 ||
            { cat /var/log/frr/shortcut.out >&2; exit 1; }
        vtysh -c 'write memory' < /dev/null > /dev/null 2>&1
    fi
    ;;
*)
    echo "daemon.sh: the daemon is bird or frr, not '$kind'" >&2
    exit 2
    ;;
esac
