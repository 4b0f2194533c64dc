/** Arbitrary bytes never make a netlink decoder throw. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { decodeFamily } from "../../../../plugin/wire/netlink/genl.js";
import { decodeMessages, decodeStatus } from "../../../../plugin/wire/netlink/message.js";
import { decodeSetElements } from "../../../../plugin/wire/netlink/nftables.js";
import { decodeDevice, setPeer } from "../../../../plugin/wire/netlink/wireguard.js";
import { captured } from "./captured.js";

const peer = setPeer(1, "wg0", {
  publicKey: publicKeyFromBytes(new Uint8Array(32).fill(7)),
  addAllowedIps: [prefix("10.0.0.0/8"), prefix("2001:db8::/32")],
  endpoint: undefined,
  keepalive: 25,
})[0]?.payload;

const decoders: readonly (readonly [string, Uint8Array, (b: Uint8Array) => { readonly ok: boolean }])[] = [
  ["set elements", captured.setElements, decodeSetElements],
  ["family", captured.family, decodeFamily],
  ["device", peer ?? new Uint8Array(0), (b) => decodeDevice([b, b])],
  [
    "error",
    captured.error,
    (b) => {
      const messages = decodeMessages(b);
      if (!messages.ok) return messages;
      const statuses = messages.value.map(decodeStatus);
      return statuses.find((s) => !s.ok) ?? messages;
    },
  ],
];

for (const [name, vector, decode] of decoders)
  test(`${name}: mutated bytes never throw, and damage is noticed`, () => {
    expect(decode(vector).ok).toBe(true);
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(vector.length - 1), fc.nat(255)), { maxLength: 6 }),
        fc.nat(vector.length),
        (changes, cut) => {
          const bytes = vector.slice(0, cut);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          if (!decode(bytes).ok) refused++;
        },
      ),
      // a request that claims more than 2^31 bytes
      {
        numRuns: 2000,
        examples:
          name === "error"
            ? [
                [
                  [
                    [23, 128],
                    [7, 62],
                  ],
                  64,
                ],
              ]
            : [],
      },
    );
    expect(refused).toBeGreaterThan(50);
  });
