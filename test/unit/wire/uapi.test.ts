/** The UAPI of wireguard-go: requests as text, replies as values, malformed values as errors with their line. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { address, prefix } from "../../../plugin/net/address.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../plugin/net/key.js";
import {
  decodeGetReply,
  decodeSetReply,
  encodeRemovePeer,
  encodeSetDevice,
  encodeSetPeer,
  uapiReplyComplete,
} from "../../../plugin/wire/uapi.js";

const ONES = "11".repeat(32);
const publicKey = publicKeyFromBytes(new Uint8Array(32).fill(0x11));
const privateKey = privateKeyFromBytes(new Uint8Array(32).fill(0x22));

describe("requests", () => {
  test("device", () => {
    expect(encodeSetDevice({ privateKey, listenPort: 51820 })).toBe(
      `set=1\nprivate_key=${"22".repeat(32)}\nlisten_port=51820\n\n`,
    );
    expect(encodeSetDevice({})).toBe("set=1\n\n");
  });
  test("peer: what is undefined is not said; an empty list adds nothing, and nothing is ever replaced", () => {
    expect(
      encodeSetPeer({
        publicKey,
        presharedKey: privateKey,
        endpoint: { address: address("2001:db8::1"), port: 5 },
        addAllowedIps: [prefix("10.0.0.0/8"), prefix("::/0")],
        keepalive: 0,
      }),
    ).toBe(
      `set=1\npublic_key=${ONES}\npreshared_key=${"22".repeat(32)}\nendpoint=[2001:db8::1]:5\npersistent_keepalive_interval=0\n` +
        "allowed_ip=10.0.0.0/8\nallowed_ip=::/0\n\n",
    );
    expect(encodeSetPeer({ publicKey, addAllowedIps: [] })).toBe(`set=1\npublic_key=${ONES}\n\n`);
    expect(encodeSetPeer({ publicKey })).toBe(`set=1\npublic_key=${ONES}\n\n`);
    expect(encodeRemovePeer(publicKey)).toBe(`set=1\npublic_key=${ONES}\nremove=true\n\n`);
  });
});

// The example of wireguard.com/xplatform, with a scope and an unknown key added.
const reply = `private_key=${"22".repeat(32)}
listen_port=12912
fwmark=51820
public_key=${ONES}
preshared_key=${"00".repeat(32)}
protocol_version=1
endpoint=[fe80::ee:1%5]:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5999999
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
allowed_ip=192.168.4.4/32
allowed_ip=10.0.0.7/8
something_new=yes
public_key=${"44".repeat(32)}
errno=0

`;

describe("replies", () => {
  test("get", () => {
    expect(uapiReplyComplete(reply)).toBe(true);
    expect(uapiReplyComplete(reply.slice(0, -1))).toBe(false);
    expect(decodeGetReply(reply)).toEqual({
      ok: true,
      value: {
        privateKey: new Uint8Array(32).fill(0x22),
        listenPort: 12912,
        fwmark: 51820,
        peers: [
          {
            publicKey,
            endpoint: { address: "fe80::ee:1", port: 51820 },
            allowedIps: ["192.168.4.4/32", "10.0.0.0/8"],
            keepalive: 111,
            lastHandshake: 1_700_000_000_005,
            rxBytes: 2224,
            txBytes: 38333,
          },
          {
            publicKey: publicKeyFromBytes(new Uint8Array(32).fill(0x44)),
            endpoint: undefined,
            allowedIps: [],
            keepalive: 0,
            lastHandshake: 0,
            rxBytes: 0,
            txBytes: 0,
          },
        ],
      },
    });
  });

  test("get: a pre-shared key, of which zeros are none", () => {
    const ofPeer = (hex: string) => {
      const r = decodeGetReply(`public_key=${ONES}\npreshared_key=${hex}\nerrno=0\n\n`);
      return r.ok ? r.value.peers[0]?.presharedKey : r.error;
    };
    expect(ofPeer("22".repeat(32))).toBe(privateKey);
    expect(ofPeer("00".repeat(32))).toBeUndefined();
    expect(ofPeer("2")).toEqual({ line: 2, problem: "preshared_key is not 64 hex digits" });
  });

  test.each([
    ["listen_port=70000\nerrno=0\n\n", 1, /listen_port/],
    [`public_key=${"1".repeat(63)}\nerrno=0\n\n`, 1, /public_key/],
    [`public_key=${ONES}\nallowed_ip=10.0.0.0/33\nerrno=0\n\n`, 2, /allowed_ip/],
    [`public_key=${ONES}\nendpoint=nowhere\nerrno=0\n\n`, 2, /endpoint/],
    [`public_key=${ONES}\nrx_bytes=many\nerrno=0\n\n`, 2, /rx_bytes/],
    ["nonsense\nerrno=0\n\n", 1, /no '='/],
    ["listen_port=1\n\n", 0, /no errno/],
    ["errno=-5\n\n", 0, /errno 5/],
  ])("%j", (text, line, problem) => {
    const r = decodeGetReply(text);
    expect(r.ok).toBe(false);
    if (r.ok) return;
    expect(r.error.line).toBe(line);
    expect(r.error.problem).toMatch(problem);
    // An error must never repeat key material.
    expect(r.error.problem).not.toMatch(/[0-9a-f]{20}/);
  });

  test("set", () => {
    expect(decodeSetReply("errno=0\n\n")).toEqual({ ok: true, value: 0 });
    expect(decodeSetReply("errno=-98\n\n")).toEqual({ ok: true, value: 98 });
    expect(decodeSetReply("\n\n")).toMatchObject({ ok: false });
  });

  test("damaged replies never throw", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(reply.length - 1), fc.string({ maxLength: 3 })), { maxLength: 5 }),
        (changes) => {
          let text = reply;
          for (const [at, s] of changes) text = text.slice(0, at) + s + text.slice(at + s.length);
          expect(typeof decodeGetReply(text).ok).toBe("boolean");
          expect(typeof decodeSetReply(text).ok).toBe("boolean");
        },
      ),
      { numRuns: 1000 },
    );
  });
});
