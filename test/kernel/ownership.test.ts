/**
 * Shows that what belongs to somebody else and has a name of shortcutd's is left alone by the whole program: a tunnel with the name
 * of the direct interface, and nftables tables. shortcutd refuses to start with exit code 2, names what to do, and changes nothing.
 */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { eventually, Namespace, OVERLAY } from "./namespace.js";

const MAIN = join(process.cwd(), "dist/plugin/main.js");
const MAINS = `'${process.execPath}' '${MAIN}' run -c /run/hub.yaml`;
const HUB =
  "role: hub\\noverlay: wg0\\ncontrol: { socket: /run/control.sock }\\ndirect: { key: /run/key }\\n";

let ns: Namespace;
beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(`${OVERLAY}; printf '${HUB}' > /run/hub.yaml`);
});
afterEach(() => ns.destroy());

const log = (): string => ns.sh("cat /run/log 2> /dev/null || true");
const logged = (text: string): Promise<boolean> => eventually(text, () => log().includes(text), 30_000);
/** Everything that shortcutd could have changed. */
const router = (): string =>
  ns.sh(
    "ip -o -d link | sed 's/qlen.*//'; ip -o addr | sed 's/valid_lft.*//'; wg show all dump | cut -f 1-4; nft list ruleset; ip route show table all",
  );

async function start(): Promise<void> {
  ns.sh("rm -f /run/log /run/code");
  ns.start("sh", "-c", `${MAINS} > /run/log 2>&1 & echo $! > /run/pid; wait $!; echo $? > /run/code`);
  await logged('"message":"started"');
}

async function stop(): Promise<void> {
  ns.sh("kill -TERM $(cat /run/pid)");
  await eventually("the end", () => ns.sh("cat /run/code 2>/dev/null || true") !== "", 30_000);
}

/** Starts shortcutd, which must refuse; what it says. */
const refused = (): string => ns.sh(`${MAINS} 2>&1; echo "exit $?"`);

/** A tunnel of somebody else's, with a peer. */
const TUNNEL = `ip link add shortcut0 type wireguard 2> /dev/null || wireguard-go shortcut0
  wg genkey > /run/other; wg set shortcut0 private-key /run/other listen-port 51999
  wg set shortcut0 peer $(wg genkey | wg pubkey) allowed-ips 10.9.0.0/16
  ip addr add 10.9.0.1/24 dev shortcut0; ip link set shortcut0 up`;

describe("a tunnel of somebody else's with the name of the direct interface", () => {
  it("shortcutd does not start, says why, and leaves it as it is", () => {
    ns.sh(TUNNEL);
    const before = router();
    const said = refused();
    expect(said).toMatch(
      /interface shortcut0: is a WireGuard interface that shortcutd did not make: .*\(choose another name for `direct.interface`/,
    );
    expect(said).toContain("exit 2\n");
    expect(router()).toBe(before);
  });

  it("nor an interface that is no tunnel", () => {
    ns.sh("ip link add shortcut0 type veth peer name ve1; ip addr add 10.9.0.1/24 dev shortcut0");
    const before = router();
    expect(refused()).toMatch(/interface shortcut0: is veth and no WireGuard answers for it .*\nexit 2\n/s);
    expect(router()).toBe(before);
  });

  it("that was made while shortcutd ran is left alone then, and at the stop", async () => {
    await start();
    ns.sh("ip link del shortcut0");
    await logged("direct interface changed by another program: it is gone");
    await eventually("ours again", () =>
      ns.sh("ip -d link show shortcut0 2> /dev/null || true").includes("shortcutd:wg0"),
    );
    // quicker than shortcutd, which would make its own again
    ns.sh(`kill -STOP $(cat /run/pid); ip link del shortcut0
      while [ -e /run/wireguard/shortcut0.sock ]; do sleep 0.02; done; ${TUNNEL}
      kill -CONT $(cat /run/pid)`);
    await logged("interface that shortcutd did not make");
    const before = ns.sh("ip -o -d link show shortcut0; wg show shortcut0 dump");
    expect(ns.sh("ip -o addr show dev shortcut0")).not.toContain("10.255.0.1");
    await stop();
    expect(ns.sh("cat /run/code").trim()).toBe("0");
    expect(ns.sh("ip -o -d link show shortcut0; wg show shortcut0 dump")).toBe(before);
    expect(ns.sh("nft list tables")).toBe("");
  });
});

describe("an nftables table of somebody else's with the name of ours", () => {
  it.each(["inet", "netdev"])("family %s: shortcutd does not start, and leaves it as it is", (family) => {
    ns.sh(
      `nft 'table ${family} shortcutd_wg0 { set precious { type ipv4_addr; elements = { 10.9.0.1 }; }; }'`,
    );
    const before = router();
    const said = refused();
    expect(said).toContain(`nftables table ${family} shortcutd_wg0: is not shortcutd's`);
    expect(said).toContain("exit 2\n");
    expect(router()).toBe(before);
  });

  it("one that a crash of ours left is replaced", async () => {
    await start();
    ns.sh("kill -9 $(cat /run/pid)");
    await eventually("its end", () => ns.sh("cat /run/code 2>/dev/null || true") !== "");
    ns.sh("nft delete chain inet shortcutd_wg0 count");
    await start();
    expect(ns.sh("nft list table inet shortcutd_wg0")).toContain("chain count");
    await stop();
    expect(
      ns.sh(
        "nft list tables; ip -o link show type wireguard | grep -v wg0; ip -o link show dev shortcut0 || true",
      ),
    ).toBe("");
  });
});
