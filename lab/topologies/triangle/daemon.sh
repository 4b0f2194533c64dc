#!/bin/sh
# Starts the routing daemon of one router as an operator would have set it up.
#   daemon.sh bird CONF [shortcut]    bird.conf, and with `shortcut` the files of bird-config/ beside it
#   daemon.sh frr  CONF [shortcut]    frr.conf, and with `shortcut` frr-config/shortcut.conf loaded and saved
# REPO is where this repository is mounted in the node. Daemons keep their caller's output open: it is redirected.
# DAEMON_ROOT, when it is set, is a Debian root with another version of the daemon (lab/plays/versions/root.sh), which then runs in it,
# layered at /run/daemon; `birdc` and `vtysh` of the node lead there, and /etc/bird and /etc/frr are the node's.
set -eu
REPO=${REPO:-/run/lab}
DAEMON_ROOT=${DAEMON_ROOT:-}
kind=$1
conf=$2
shortcut=${3:-}

at=
if [ -n "$DAEMON_ROOT" ]; then
    at=/run/daemon
    layer=/run/.layers/daemon
    mkdir -p $at $layer/upper $layer/work /run/bin
    mount -t overlay overlay -o "lowerdir=$DAEMON_ROOT,upperdir=$layer/upper,workdir=$layer/work" $at
    for dir in /proc /dev /sys "$REPO" "/etc/$kind"; do
        mkdir -p "$at$dir"
        mount --rbind "$dir" "$at$dir"
    done
    for command in birdc vtysh; do
        printf '#!/bin/sh\nexec chroot %s %s "$@"\n' $at $command > /run/bin/$command
        chmod 755 /run/bin/$command
    done
fi
in_root() {
    if [ -n "$at" ]; then chroot $at "$@"; else "$@"; fi
}

case $kind in
bird)
    mkdir -p $at/run/bird /etc/bird/shortcut
    cp "$REPO/$conf" /etc/bird/bird.conf
    [ -z "$shortcut" ] || cp "$REPO"/bird-config/*.conf /etc/bird/shortcut/
    touch $at/var/log/bird.log
    in_root chown -R bird:bird /run/bird /etc/bird /var/log/bird.log
    in_root bird -p -c /etc/bird/bird.conf
    in_root bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid \
        < /dev/null > $at/var/log/bird.out 2>&1
    ;;
frr)
    mkdir -p $at/run/frr $at/var/log/frr
    cp "$REPO/$conf" /etc/frr/frr.conf
    echo 'service integrated-vtysh-config' > /etc/frr/vtysh.conf
    in_root chown frr:frr /run/frr /var/log/frr /etc/frr/frr.conf /etc/frr/vtysh.conf
    # mgmtd is new in 8.5; it has to be there before zebra.
    for daemon in mgmtd zebra staticd bgpd bfdd ospfd; do
        [ -x "$at/usr/lib/frr/$daemon" ] || continue
        [ "$daemon" != ospfd ] || grep -q "^router ospf" /etc/frr/frr.conf || continue
        [ "$daemon" != bfdd ] || grep -q "^bfd" /etc/frr/frr.conf || continue
        in_root "/usr/lib/frr/$daemon" -d -A 127.0.0.1 < /dev/null > "$at/var/log/frr/$daemon.out" 2>&1
    done
    in_root vtysh -b < /dev/null > $at/var/log/frr/vtysh.out 2>&1 || { cat $at/var/log/frr/vtysh.out >&2; exit 1; }
    if [ -n "$shortcut" ]; then
        in_root vtysh -f "$REPO/frr-config/shortcut.conf" < /dev/null > $at/var/log/frr/shortcut.out 2>&1 ||
            { cat $at/var/log/frr/shortcut.out >&2; exit 1; }
        in_root vtysh -c 'write memory' < /dev/null > /dev/null 2>&1
    fi
    ;;
*)
    echo "daemon.sh: the daemon is bird or frr, not '$kind'" >&2
    exit 2
    ;;
esac
