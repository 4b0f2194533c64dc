/** Link-local addresses of direct interfaces: derived from the key, and told from others. */
import { expect, test } from "vitest";
import { address } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { isLinkLocal, linkLocalOf } from "../../../../plugin/shortcut/probe/link-local.js";

test("the first eight bytes of the key behind fe80::/64", () => {
  const key = publicKeyFromBytes(Uint8Array.from({ length: 32 }, (_, i) => i + 1));
  expect(linkLocalOf(key)).toBe("fe80::102:304:506:708");
});

test("fe80::/10 is link-local, and nothing else is", () => {
  for (const a of ["fe80::1", "febf::1"]) expect(isLinkLocal(address(a)), a).toBe(true);
  for (const a of ["fe7f::1", "fec0::1", "2001:db8::fe80", "::", "254.128.0.1", "10.255.0.1"])
    expect(isLinkLocal(address(a)), a).toBe(false);
});
