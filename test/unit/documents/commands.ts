/**
 * Every shell command of the documents, and what runs it. A command in a block marked `sh` is either run by a test, as written, or
 * has a reason why not.
 */

const REMOVAL = "test/kernel/removal.test.ts";
const NEEDS_NETWORK = "needs the network; lab/setup.sh does the same before every lab";
const VRF = "`npm run guest -- vrf` runs it, for each customer: it needs QEMU and a kernel with VRFs";
const STORY = "test/kernel/main-job.test.ts tells the same story, without the command line";
const SCENARIOS = "test/kernel/scenario-*.test.ts run some of the scenarios, without the command line";
const MATRIX = "runs every pair; test/kernel/nat.test.ts runs a part, without the command line";
const PROGRAM = "removes the program itself, with the repository in which the test runs";

/** Commands that a test runs, and the test. */
export const RUN: Readonly<Record<string, string>> = {
  "mkdir -p /etc/shortcutd /etc/iproute2/rt_protos.d": REMOVAL,
  "cp /opt/shortcutd/doc/rt_protos.d/shortcutd.conf /etc/iproute2/rt_protos.d/": REMOVAL,
  "install -D -m 644 /opt/shortcutd/doc/sysusers.d/shortcutd.conf /etc/sysusers.d/shortcutd.conf": REMOVAL,
  "systemd-sysusers /etc/sysusers.d/shortcutd.conf": REMOVAL,
  "install -d -m 700 -o shortcutd -g shortcutd /var/lib/shortcutd": REMOVAL,
  "install -D -m 644 /opt/shortcutd/doc/shortcutd.service.d/wireguard-go.conf /etc/systemd/system/shortcutd.service.d/wireguard-go.conf":
    REMOVAL,
  "chown -R shortcutd: /var/lib/shortcutd": REMOVAL,
  "usermod -a -G bird shortcutd": REMOVAL,
  "usermod -a -G frrvty shortcutd": REMOVAL,
  "install -m 600 -o shortcutd /dev/null /var/lib/shortcutd/bgp-password": REMOVAL,
  "head -c 24 /dev/urandom | base64 > /var/lib/shortcutd/bgp-password": REMOVAL,
  "install -m 640 -g bird /dev/null /etc/bird/shortcut/password.conf": REMOVAL,
  [String.raw`echo "password \"$(cat /var/lib/shortcutd/bgp-password)\";" > /etc/bird/shortcut/password.conf`]:
    REMOVAL,
  [String.raw`printf 'router bgp YOUR_AS\nneighbor %s password %s\nneighbor %s password %s\n' SHORTCUT "$(cat /var/lib/shortcutd/bgp-password)" SHORTCUT-FEED "$(cat /var/lib/shortcutd/bgp-password)" | vtysh -f /dev/stdin`]:
    REMOVAL,
  "vtysh -c 'write memory'": REMOVAL,
  "install -D -m 644 /opt/shortcutd/doc/nftables/shortcutd-sessions.nft /etc/shortcutd/sessions.nft": REMOVAL,
  "nft -f /etc/shortcutd/sessions.nft": REMOVAL,
  "nft delete table inet shortcutd_sessions": REMOVAL,
  "userdel shortcutd": REMOVAL,
  "rm -rf /etc/sysusers.d/shortcutd.conf /etc/systemd/system/shortcutd.service.d": REMOVAL,
  "ip route show table all proto shortcutd": REMOVAL,
  "rm -rf /etc/systemd/system/shortcutd.service /etc/iproute2/rt_protos.d/shortcutd.conf": REMOVAL,
  "rm -rf /etc/shortcutd /var/lib/shortcutd /opt/shortcutd": REMOVAL,
  "shortcutd check -c /etc/shortcutd/shortcutd.yaml": REMOVAL,
  "cp /opt/shortcutd/doc/shortcutd.service /etc/systemd/system/": REMOVAL,
  "systemctl enable --now shortcutd": REMOVAL,
  "mkdir -p /etc/bird/shortcut": REMOVAL,
  "cp /opt/shortcutd/bird-config/*.conf /etc/bird/shortcut/": REMOVAL,
  "birdc configure": REMOVAL,
  "sed 's/65000/YOUR_AS/g' /opt/shortcutd/frr-config/shortcut.conf > /tmp/shortcut.conf": REMOVAL,
  "vtysh -f /tmp/shortcut.conf && vtysh -c 'write memory'": REMOVAL,
  "shortcutd check --daemon -c /etc/shortcutd/shortcutd.yaml": REMOVAL,
  "shortcutctl status": REMOVAL,
  "shortcutctl explain 10.3.0.10": REMOVAL,
  "cp /opt/shortcutd/bird-config/shortcut.conf /opt/shortcutd/bird-config/constants.conf /etc/bird/shortcut/":
    REMOVAL,
  "vtysh -f /tmp/shortcut.conf; vtysh -c 'write memory'": REMOVAL,
  "systemctl restart shortcutd": REMOVAL,
  "systemctl disable --now shortcutd": REMOVAL,
  "rm -r /etc/bird/shortcut": REMOVAL,
  "sed 's/65000/YOUR_AS/g' /opt/shortcutd/frr-config/remove.conf > /tmp/remove.conf": REMOVAL,
  "vtysh -f /tmp/remove.conf && vtysh -c 'write memory'": REMOVAL,
};

/** Commands that no test runs as they are, and why. */
export const NOT_RUN: Readonly<Record<string, string>> = {
  "npm run lab": STORY,
  "npm run lab -- --daemon-a frr --daemon-b bird --daemon-c frr": STORY,
  "npm run lab -- --keep": "leaves a lab behind; test/kernel/lab-runner.test.ts keeps one and takes it down",
  "npm run lab -- --down": "takes down every lab of this machine; see --keep",
  "npm run lab -- --scenario list": SCENARIOS,
  "npm run lab -- --scenario cut-both --daemon-a frr --daemon-c frr": SCENARIOS,
  "npm run lab -- --scenario NAME --daemon-a DAEMON --daemon-c DAEMON": SCENARIOS,
  "npm run lab -- --nat-matrix": MATRIX,
  "npm run lab -- --nat-matrix random:ei-ad,hairpin": MATRIX,
  "npm test": "runs this test",
  "sh lab/setup.sh": "runs before every lab and before `npm test`",
  "npm run lint": "its four linters are steps of `npm test`",
  "npm run test:unit": "runs this test",
  "npm run fuzz -- bgp-update 600":
    "takes its time; test/fuzz/fuzz.test.ts runs each target without coverage",
  "git clone <this repository> /opt/shortcutd && cd /opt/shortcutd": NEEDS_NETWORK,
  "npm ci && npm run build && npm link": NEEDS_NETWORK,
  "cd /opt/shortcutd && git pull": NEEDS_NETWORK,
  "npm ci && npm run build": NEEDS_NETWORK,
  "npm uninstall --global shortcutd": PROGRAM,
  "systemctl daemon-reload": PROGRAM,
  "ip rule add pref 32765 table local && ip rule delete pref 0": VRF,
  "ip link add red type vrf table 101": VRF,
  "for a in 127.0.0.1 127.0.0.2 127.0.0.3; do ip address add $a/32 dev red; done": VRF,
  "ip link set red up": VRF,
  "ip route add unreachable default metric 4278198272 table 101": VRF,
  "ip link set lan-red vrf red": VRF,
  "ip link set wg-red vrf red": VRF,
  "systemctl enable --now shortcutd@red": VRF,
  "shortcutctl -s /run/shortcutd/red.sock status": VRF,
  [`sed -i -E '/^protocol (bgp|static) shortcut/ s/\\{/{ vrf "red";/' /etc/bird/shortcut/shortcut.conf`]: VRF,
  "sed 's/^router bgp 65000/router bgp 65000 vrf red/; s/interface shortcut0/interface sc-red/; s/interface wg0/interface wg-red/' shortcut.conf > /tmp/red.conf && vtysh -f /tmp/red.conf":
    VRF,
};
