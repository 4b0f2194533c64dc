/** Whose an interface is that has the name of the direct interface: the mark or our key proves it ours, nothing else does. */
import { expect, it } from "vitest";
import { foreignness, markOf } from "../../../../plugin/driver/kernel/ownership.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";

const key = (n: number) => publicKeyFromBytes(new Uint8Array(32).fill(n));
const owner = { mark: markOf(new InterfaceNames(["wg0"])), publicKey: key(1) };
const found = (alias: string | undefined, publicKey = key(2)) =>
  foreignness(owner, { kind: "tun", alias, device: { publicKey } });

it("the mark proves it, whatever its key is; our key proves it without a mark", () => {
  expect(found("shortcutd:wg0")).toBeUndefined();
  expect(found(undefined, key(1))).toBeUndefined();
  expect(found("uplink of the third floor", key(1))).toBeUndefined();
});

it("everything else is somebody else's, and is named as what it is", () => {
  expect(found(undefined)).toContain("is a WireGuard interface that shortcutd did not make");
  expect(found("")).toContain("shortcutd did not make");
  expect(foreignness(owner, { kind: "veth", alias: "shortcutd:wg0", device: undefined })).toBe(
    "is veth and no WireGuard answers for it",
  );
  expect(foreignness(owner, { kind: undefined, alias: undefined, device: undefined })).toContain("hardware");
});

it("the mark of another overlay wins over our key: two instances may share a key file", () => {
  expect(found("shortcutd:wg1", key(1))).toContain("belongs to the shortcutd of overlay wg1");
});
