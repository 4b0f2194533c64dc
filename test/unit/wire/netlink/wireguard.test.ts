/** Generic netlink of WireGuard: devices and peers, also over several messages. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { address, prefix, prefixFromBytes } from "../../../../plugin/net/address.js";
import { keyHex, privateKeyFromBytes, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { BodyWriter } from "../../../../plugin/wire/netlink/attribute.js";
import {
  ALLOWED_IPS_PER_MESSAGE,
  decodeDevice,
  decodeSockaddr,
  encodeSockaddr,
  getDevice,
  removePeer,
  setDevice,
  setPeer,
} from "../../../../plugin/wire/netlink/wireguard.js";
import { comparable, hex } from "./captured.js";

// No kernel WireGuard captured these: they are laid out by hand from linux/wireguard.h and the padding rules of netlink(7).
const publicKey = publicKeyFromBytes(new Uint8Array(32).fill(0x11));
const privateKey = privateKeyFromBytes(new Uint8Array(32).fill(0x22));
const psk = privateKeyFromBytes(new Uint8Array(32).fill(0x33));
const FAMILY = 0x1d;

describe.runIf(comparable)("requests", () => {
  test("WG_CMD_GET_DEVICE is a dump by WGDEVICE_A_IFNAME", () => {
    expect(getDevice(FAMILY, "wg0")).toEqual({
      type: FAMILY,
      flags: 0x300,
      payload: hex("00010000 0800 0200 77673000"),
    });
  });

  test("WG_CMD_SET_DEVICE: private key and port", () => {
    expect(setDevice(FAMILY, "wg0", { privateKey, listenPort: 51820 })).toEqual({
      type: FAMILY,
      flags: 0,
      payload: hex(`01010000 0800 0200 77673000  2400 0300 ${keyHex(privateKey)}  0600 0600 6cca 0000`),
    });
    expect(setDevice(FAMILY, "wg0", { fwmark: 0xca6c }).payload).toEqual(
      hex("01010000 0800 0200 77673000  0800 0700 6cca0000"),
    );
    expect(setDevice(FAMILY, "wg0", {}).payload).toEqual(hex("01010000 0800 0200 77673000"));
  });

  test("a peer with everything", () => {
    const [request, ...more] = setPeer(FAMILY, "wg0", {
      publicKey,
      presharedKey: psk,
      endpoint: { address: address("192.0.2.1"), port: 51820 },
      addAllowedIps: [prefix("10.1.0.0/16"), prefix("2001:db8::/32")],
      keepalive: 25,
    });
    expect(more).toEqual([]);
    expect(request?.payload).toEqual(
      hex(`01010000  0800 0200 77673000
        b400 0880
          b000 0080
            2400 0100 ${keyHex(publicKey)}
            2400 0200 ${keyHex(psk)}
            1400 0400 0200 ca6c c0000201 0000000000000000
            0600 0500 1900 0000
            4800 0980
              1c00 0080  0600 0100 0200 0000  0800 0200 0a010000  0500 0300 10 000000
              2800 0080  0600 0100 0a00 0000  1400 0200 20010db8000000000000000000000000  0500 0300 20 000000`),
    );
  });

  test("what is undefined is not sent; an empty list adds nothing", () => {
    expect(setPeer(FAMILY, "wg0", { publicKey, keepalive: 0 })[0]?.payload).toEqual(
      hex(
        `01010000 0800 0200 77673000  3400 0880 3000 0080 2400 0100 ${keyHex(publicKey)}  0600 0500 0000 0000`,
      ),
    );
    expect(setPeer(FAMILY, "wg0", { publicKey, addAllowedIps: [] })[0]?.payload).toEqual(
      hex(`01010000 0800 0200 77673000  2c00 0880 2800 0080 2400 0100 ${keyHex(publicKey)}`),
    );
  });

  test("WGPEER_F_REMOVE_ME", () => {
    expect(removePeer(FAMILY, "wg0", publicKey).payload).toEqual(
      hex(
        `01010000 0800 0200 77673000  3400 0880 3000 0080 2400 0100 ${keyHex(publicKey)}  0800 0300 01000000`,
      ),
    );
  });

  test("a long list is split; no message replaces; the reader joins them", () => {
    const allowedIps = Array.from({ length: 2 * ALLOWED_IPS_PER_MESSAGE + 1 }, (_, i) =>
      prefixFromBytes(Uint8Array.of(10, i >> 8, i & 255, 0), 24),
    );
    const requests = setPeer(FAMILY, "wg0", { publicKey, addAllowedIps: allowedIps, keepalive: 5 });
    expect(requests).toHaveLength(3);
    const flags = requests.map((r) =>
      Buffer.from(r.payload).includes(Buffer.from("0800030002000000", "hex")),
    );
    expect(flags).toEqual([false, false, false]);
    const device = decodeDevice(requests.map((r) => r.payload));
    expect(device).toMatchObject({ ok: true, value: { peers: [{ publicKey, keepalive: 5, allowedIps }] } });
  });
});

describe.runIf(comparable)("WG_CMD_GET_DEVICE answers", () => {
  test("device, peers over several messages, the split peer joined", () => {
    const first = hex(`00010000
      0800 0100 05000000  0800 0200 77673000
      2400 0300 ${keyHex(privateKey)}  2400 0400 ${keyHex(publicKey)}
      0600 0600 6cca 0000  0800 0700 00000000
      c400 0880
        bc00 0080
          2400 0100 ${"11".repeat(32)}
          2400 0200 ${"00".repeat(32)}
          1400 0600 00e1f50500000000 40420f0000000000
          0600 0500 1900 0000
          0c00 0800 0001000000000000
          0c00 0700 0002000000000000
          0800 0a00 01000000
          1400 0400 0200 ca6c c0000201 0000000000000000
          2000 0980  1c00 0080  0600 0100 0200 0000  0800 0200 0a010000  0500 0300 10 000000
        0400 0080`);
    // The second nested attribute has no public key: a malformed peer, not a crash.
    expect(decodeDevice([first])).toMatchObject({ ok: false, error: { at: "WGPEER_A_PUBLIC_KEY" } });

    const peer = (key: string, ip: string): string => `4800 0080 2400 0100 ${key}
          2000 0980  1c00 0080  0600 0100 0200 0000  0800 0200 ${ip}  0500 0300 18 000000`;
    const messages = [
      hex(
        `00010000 0800 0200 77673000 2400 0400 ${keyHex(publicKey)} 0600 0600 6cca 0000
        a800 0880
          a400 0080
            2400 0100 ${"11".repeat(32)}
            1400 0600 00e1f50500000000 40420f0000000000
            0600 0500 1900 0000
            0c00 0800 0001000000000000
            0c00 0700 0002000000000000
            0800 0a00 01000000
            2000 0400 0a00 ca6c 00000000 fe80000000000000000000000000 0001 02000000
            2000 0980  1c00 0080  0600 0100 0200 0000  0800 0200 0a010000  0500 0300 10 000000`,
      ),
      hex(
        `00010000 0800 0200 77673000 9400 0880 ${peer("11".repeat(32), "0a020000")} ${peer("44".repeat(32), "0a030000")}`,
      ),
    ];
    expect(decodeDevice(messages)).toEqual({
      ok: true,
      value: {
        publicKey,
        listenPort: 51820,
        fwmark: 0,
        peers: [
          {
            publicKey,
            endpoint: { address: "fe80::1", port: 51820 },
            allowedIps: ["10.1.0.0/16", "10.2.0.0/24"],
            keepalive: 25,
            lastHandshake: 100_000_000 * 1000 + 1,
            rxBytes: 512,
            txBytes: 256,
          },
          {
            publicKey: publicKeyFromBytes(new Uint8Array(32).fill(0x44)),
            endpoint: undefined,
            allowedIps: ["10.3.0.0/24"],
            keepalive: 0,
            lastHandshake: 0,
            rxBytes: 0,
            txBytes: 0,
          },
        ],
      },
    });
  });

  test("a pre-shared key, of which zeros are none", () => {
    const read = (n: number) => {
      const publicKey = publicKeyFromBytes(new Uint8Array(32).fill(7));
      const presharedKey = privateKeyFromBytes(new Uint8Array(32).fill(n));
      const d = decodeDevice(setPeer(1, "wg0", { publicKey, presharedKey }).map((r) => r.payload));
      return d.ok ? d.value.peers[0]?.presharedKey : d.error;
    };
    expect(read(9)).toBe(privateKeyFromBytes(new Uint8Array(32).fill(9)));
    expect(read(0)).toBeUndefined();
  });

  test("an allowed IP with an impossible mask", () => {
    const bad = new BodyWriter()
      .raw(Uint8Array.of(0, 1, 0, 0))
      .nested(8, (peers) =>
        peers.nested(0, (p) =>
          p
            .bytes(1, new Uint8Array(32))
            .nested(9, (l) => l.nested(0, (a) => a.u16(1, 2).bytes(2, new Uint8Array(4)).u8(3, 33))),
        ),
      )
      .finish();
    expect(decodeDevice([bad])).toMatchObject({ ok: false, error: { at: "WGPEER_A_ALLOWEDIPS" } });
  });
});

describe.runIf(comparable)("struct sockaddr", () => {
  test("IPv4 and IPv6 with scope", () => {
    expect(encodeSockaddr({ address: address("192.0.2.1"), port: 51820 })).toEqual(
      hex("0200 ca6c c0000201 0000000000000000"),
    );
    expect(encodeSockaddr({ address: address("fe80::1"), port: 1 }, 7)).toEqual(
      hex(`0a00 0001 00000000 fe80${"00".repeat(13)}01 07000000`),
    );
  });
  test("round trip, and what is none", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 65535 }),
        (b, v4, port) => {
          const e = {
            address: address(prefixFromBytes(v4 ? b.subarray(0, 4) : b, v4 ? 32 : 128).replace(/\/.*/, "")),
            port,
          };
          expect(decodeSockaddr(encodeSockaddr(e))).toEqual(e);
        },
      ),
    );
    expect(decodeSockaddr(hex("0200 ca6c"))).toBeUndefined();
    expect(decodeSockaddr(hex("0200 0000 c0000201 0000000000000000"))).toBeUndefined();
    expect(decodeSockaddr(hex("0100 ca6c c0000201 0000000000000000"))).toBeUndefined();
  });
});
