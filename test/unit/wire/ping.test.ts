/** Pings survive the wire, and nothing else is taken for one. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressFromBytes } from "../../../plugin/net/address.js";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";
import {
  decodePing,
  encodePing,
  PING_BYTES,
  type Ping,
  pingMac,
  pingMacInput,
} from "../../../plugin/wire/ping.js";
import { decodeTimeExceeded, decodeUdp4, encodeUdp4, udpFilter } from "../../../plugin/wire/udp.js";

const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
const anId = fc.uint8Array({ minLength: 8, maxLength: 8 }).map(id64FromBytes);
const anAddress = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .filter((b) => b.length === 4 || !b.subarray(0, 10).every((x) => x === 0))
  .map(addressFromBytes);
const aPort = fc.integer({ min: 1, max: 65535 });
const anEndpoint = fc.record({ address: anAddress, port: aPort });
const aCount = fc.integer({ min: 0, max: 0xffffffff });
const aPing: fc.Arbitrary<Ping> = fc.record({
  kind: fc.constantFrom("open", "ping", "pong", "observe", "observed"),
  ready: fc.boolean(),
  transaction: anId,
  bootId: anId,
  epochs: fc.record({ mine: aCount, yours: aCount }),
  observed: fc.option(anEndpoint, { nil: undefined }),
});

describe("a ping", () => {
  it("reads as its vector", () => {
    const vector = bytes(`
      73636e67 01 03 0001 0102030405060708 1112131415161718 00000003 0000012c
      00000000000000000000ffffc0000282 ca6d 0000 ${"00".repeat(16)}`);
    expect(vector.length).toBe(PING_BYTES);
    expect(decodePing(vector)).toEqual({
      ok: true,
      value: {
        kind: "pong",
        ready: true,
        transaction: "0102030405060708",
        bootId: "1112131415161718",
        epochs: { mine: 3, yours: 300 },
        observed: { address: "192.0.2.130", port: 51821 },
      },
    });
  });

  it("survives the wire", () => {
    fc.assert(
      fc.property(aPing, (p) => {
        expect(decodePing(encodePing(p))).toEqual({ ok: true, value: p });
      }),
    );
  });

  it("is none of WireGuard's messages, whose first byte is 1 to 4", () => {
    fc.assert(
      fc.property(aPing, (p) => {
        expect(encodePing(p)[0]).toBeGreaterThan(4);
      }),
    );
  });

  it("never throws, whatever arrives", () => {
    fc.assert(
      fc.property(aPing, fc.nat(PING_BYTES - 1), fc.nat(255), fc.nat(80), (p, at, value, length) => {
        const b = encodePing(p);
        b[at] = value;
        decodePing(b);
        decodePing(b.subarray(0, length));
      }),
    );
    expect(decodePing(new Uint8Array(PING_BYTES))).toEqual({ ok: false, error: "not a ping: wrong magic" });
  });

  it("is signed whole, but for the MAC itself", () => {
    fc.assert(
      fc.property(aPing, fc.nat(PING_BYTES - 17), (p, at) => {
        const b = encodePing(p);
        const before = pingMacInput(b);
        b[at] = (b[at] ?? 0) ^ 1;
        expect(pingMacInput(b)).not.toEqual(before);
        expect(pingMac(b).length).toBe(16);
      }),
    );
  });
});

describe("an IPv4 packet for a raw socket", () => {
  it("reads as its vector, with RFC 768's checksum", () => {
    const packet = encodeUdp4({
      from: { address: addressFromBytes(Uint8Array.of(192, 0, 2, 1)), port: 51821 },
      to: { address: addressFromBytes(Uint8Array.of(192, 0, 2, 2)), port: 53 },
      payload: bytes("0102"),
      ttl: 2,
      id: 0x5c02,
    });
    expect(Buffer.from(packet).toString("hex")).toBe(
      bytes("4500001e 5c020000 02110000 c0000201 c0000202 ca6d0035 000ab031 0102").reduce(
        (s, b) => s + b.toString(16).padStart(2, "0"),
        "",
      ),
    );
  });

  it("never throws when it is cut or mutated", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (b) => {
        decodeUdp4(b);
        decodeTimeExceeded(b);
      }),
    );
  });

  it("that died says where, by the ID that it had", () => {
    const inner = "4500 0060 5c01 0000 0111 0000 c0a8010a c0000242 ca6d ca6d 004c 0000";
    const icmp = `45c0 0038 0000 0000 4001 0000 c0a80101 c0a8010a 0b00 0000 00000000 ${inner}`;
    expect(decodeTimeExceeded(bytes(icmp))).toEqual({
      hop: "192.168.1.1",
      to: { address: "192.0.2.66", port: 51821 },
      fromPort: 51821,
      id: 0x5c01,
    });
  });
});

describe("an ICMP message", () => {
  const inner = (protocol: string) =>
    `4500 0060 5c01 0000 01${protocol} 0000 c0a8010a c0000242 ca6d ca6d 004c 0000`;
  const icmp = (type: string, of: string) =>
    bytes(`45c0 0038 0000 0000 4001 0000 c0a80101 c0a8010a ${type} 0000 000005dc ${of}`);

  it("is read from nothing but ICMP Time Exceeded for one of our pings", () => {
    expect(decodeTimeExceeded(icmp("0b00", inner("11")))).toBeDefined();
    // echo reply, unreachable, fragmentation needed, redirect, reassembly time exceeded, parameter problem
    for (const type of ["0000", "0301", "0303", "0304", "0501", "0b01", "0c00"])
      expect(decodeTimeExceeded(icmp(type, inner("11")))).toBeUndefined();
    for (const protocol of ["06", "01", "2f"])
      expect(decodeTimeExceeded(icmp("0b00", inner(protocol)))).toBeUndefined();
  });
});

/** Runs a classic BPF program as the kernel does; what it needs of it. */
function runFilter(program: Uint8Array, packet: Uint8Array): number {
  const view = new DataView(program.buffer);
  const data = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  let a = 0;
  let x = 0;
  for (let pc = 0; ; pc++) {
    const code = view.getUint16(pc * 8, true);
    const k = view.getUint32(pc * 8 + 4, true);
    const load = (at: number, size: 2 | 4): number | undefined =>
      at + size > packet.length ? undefined : size === 2 ? data.getUint16(at) : data.getUint32(at);
    if (code === 0xb1) x = 4 * ((packet[k] ?? 0) & 15);
    else if (code === 0x15) pc += view.getUint8(pc * 8 + (a === k ? 2 : 3));
    else if (code === 0x06) return k;
    else {
      const got = load(k + (code === 0x48 || code === 0x40 ? x : 0), code === 0x28 || code === 0x48 ? 2 : 4);
      if (got === undefined) return 0;
      a = got;
    }
  }
}

describe("the filter", () => {
  const packet = (port: number, first: string) =>
    encodeUdp4({
      from: { address: addressFromBytes(Uint8Array.of(192, 0, 2, 1)), port: 9 },
      to: { address: addressFromBytes(Uint8Array.of(192, 0, 2, 2)), port },
      payload: bytes(`${first} 00000000`),
      ttl: 64,
      id: 0,
    });
  it.each([4, 6] as const)("of IPv%s passes pings to its ports and nothing else", (family) => {
    const program = udpFilter(family, [51821, 4244, 7], 0x73636e67);
    const of = (p: Uint8Array) => (family === 4 ? p : p.subarray(20));
    for (const port of [51821, 4244, 7]) {
      expect(runFilter(program, of(packet(port, "73636e67")))).toBeGreaterThan(0);
      expect(runFilter(program, of(packet(port, "04000000")))).toBe(0);
    }
    expect(runFilter(program, of(packet(51820, "73636e67")))).toBe(0);
    expect(runFilter(program, of(packet(51821, "73636e67")).subarray(0, 10))).toBe(0);
  });
});
