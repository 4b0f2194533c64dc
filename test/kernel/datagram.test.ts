/**
 * Shows that control sockets stay on their interface and address, fragment nothing, and name what
 * is in their way.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { datagramAdapter, requireFreePort } from "../../plugin/adapters/sockets/datagram.js";
import type { DatagramSocket, PortError } from "../../plugin/driver/ports.js";
import { type Address, address, type Endpoint } from "../../plugin/net/address.js";
import { CABLE, eventually, Namespace } from "./namespace.js";

let ns: Namespace;
let leave: () => void;
let open: Opened[];

interface Opened {
  readonly socket: DatagramSocket;
  readonly received: { from: Endpoint; payload: Uint8Array }[];
  readonly errors: PortError[];
}

beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(`${CABLE}
    ip link add vf0 type veth peer name vf1
    for i in vf0 vf1; do echo 1 > /proc/sys/net/ipv6/conf/$i/addr_gen_mode; ip link set $i up; done
    ip addr add 10.0.0.3/32 dev vf0
    ip addr add fe80::1/64 dev ve0 nodad; ip addr add fe80::2/64 dev ve1 nodad; ip addr add fe80::3/64 dev vf0 nodad`);
  leave = ns.enterNetwork();
  open = [];
});

afterEach(async () => {
  await Promise.all(open.map((o) => o.socket.close()));
  leave();
  await ns.destroy();
});

async function bound(dev: string, at: Address, port: number): Promise<Opened> {
  const received: Opened["received"] = [];
  const errors: PortError[] = [];
  const socket = await datagramAdapter().open(
    { dev, address: at, port },
    (from, payload) => received.push({ from, payload: payload.slice() }),
    (e) => errors.push(e),
  );
  const o = { socket, received, errors };
  open.push(o);
  return o;
}

describe("bound to an interface", () => {
  for (const [family, a, b] of [
    ["IPv4", "10.0.0.1", "10.0.0.2"],
    ["IPv6 link-local", "fe80::1", "fe80::2"],
  ] as const)
    test(`${family}: there and back, with the sender's address`, async () => {
      const left = await bound("ve0", address(a), 7001);
      const right = await bound("ve1", address(b), 7001);
      left.socket.send({ address: address(b), port: 7001 }, Uint8Array.of(1, 2, 3));
      const got = await eventually("the datagram", () => right.received[0], 3_000).catch((e: unknown) => {
        expect(left.errors).toEqual([]);
        throw e;
      });
      expect(got.from).toEqual({ address: a, port: 7001 });
      expect([...got.payload]).toEqual([1, 2, 3]);
      right.socket.send(got.from, Uint8Array.of(4));
      expect((await eventually("the answer", () => left.received[0])).from).toEqual({
        address: b,
        port: 7001,
      });
    });

  test("what arrives by another interface is not received", async () => {
    const socket = await bound("vf0", address("::"), 7001);
    const right = await bound("ve1", address("fe80::2"), 7001);
    const left = await bound("ve0", address("fe80::1"), 7002);
    left.socket.send({ address: address("fe80::2"), port: 7001 }, Uint8Array.of(1));
    await eventually("the datagram at its own interface", () => right.received.length === 1);
    expect(socket.received).toEqual([]);
  });

  test("full size passes, one byte more is EMSGSIZE: nothing is fragmented", async () => {
    for (const [a, b, headers] of [
      ["10.0.0.1", "10.0.0.2", 28],
      ["fe80::1", "fe80::2", 48],
    ] as const) {
      const left = await bound("ve0", address(a), 7001);
      const right = await bound("ve1", address(b), 7001);
      const to = { address: address(b), port: 7001 };
      left.socket.send(to, new Uint8Array(1500 - headers));
      await eventually("the full-size datagram", () => right.received.length === 1);
      left.socket.send(to, new Uint8Array(1501 - headers));
      const error = await eventually("the error", () => left.errors[0]);
      expect(error.code).toBe("EMSGSIZE");
      expect(right.received).toHaveLength(1);
    }
  });

  test("a large datagram is received whole", async () => {
    ns.sh("ip link set ve0 mtu 65535; ip link set ve1 mtu 65535");
    const left = await bound("ve0", address("fe80::1"), 7001);
    const right = await bound("ve1", address("fe80::2"), 7001);
    left.socket.send({ address: address("fe80::2"), port: 7001 }, new Uint8Array(65535 - 48).fill(7));
    const got = await eventually("the datagram", () => right.received[0]);
    expect(got.payload.length).toBe(65535 - 48);
  });
});

describe("errors", () => {
  test("the port is taken: the likely culprit is named; also while the first has been running", async () => {
    await bound("ve0", address("10.0.0.1"), 7001);
    await expect(bound("ve0", address("10.0.0.1"), 7001)).rejects.toThrow(
      /EADDRINUSE \(another shortcutd on this router\?\)/,
    );
    expect(() => requireFreePort(7001, "listen port")).toThrow(/UDP port 7001 is in use/);
    expect(() => requireFreePort(7002, "listen port")).not.toThrow();
  });

  test("no such interface, or an address that is not there", async () => {
    await expect(bound("nope0", address("10.0.0.1"), 7001)).rejects.toThrow(
      /interface nope0: does not exist/,
    );
    await expect(bound("ve0", address("192.0.2.1"), 7001)).rejects.toThrow(/EADDRNOTAVAIL/);
  });

  test("a destination without a route goes to onError; a closed socket is silent", async () => {
    const left = await bound("ve0", address("10.0.0.1"), 7001);
    ns.sh("ip link set ve0 down");
    left.socket.send({ address: address("10.0.0.2"), port: 7001 }, Uint8Array.of(1));
    const error = await eventually("the error", () => left.errors[0]);
    expect(error.code).toMatch(/ENETUNREACH|ENETDOWN|EHOSTUNREACH/);
    await left.socket.close();
    await left.socket.close();
    left.socket.send({ address: address("10.0.0.2"), port: 7001 }, Uint8Array.of(1));
    expect(left.errors).toHaveLength(1);
    const again = await bound("vf0", address("10.0.0.3"), 7001);
    expect(again.errors).toEqual([]);
  });
});
