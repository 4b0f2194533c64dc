/** Boot IDs that several routers claim: the MAC decides, and who has proven it comes first. */
import { describe, expect, it } from "vitest";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { BootIds } from "../../../../plugin/shortcut/nat/boot-ids.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const key = (n: number) => publicKeyFromBytes(new Uint8Array(32).fill(n));
const boot = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));

describe("the keys of a boot ID", () => {
  it("are those that claim it, in the order of their claims", () => {
    const b = new BootIds<string>();
    b.claim("a", boot(1), key(1));
    b.claim("m", boot(1), key(2));
    b.claim("c", boot(3), key(3));
    expect(b.keysOf(boot(1))).toEqual([key(1), key(2)]);
    expect(b.keysOf(boot(9))).toEqual([]);
  });

  it("have the one first that has proven it, and keep it there", () => {
    const b = new BootIds<string>();
    b.claim("m", boot(1), key(2));
    b.claim("a", boot(1), key(1));
    b.proven(boot(1), key(1));
    for (let i = 0; i < 100; i++) {
      b.claim("m", boot(i), key(2));
      b.claim("m", boot(1), key(2));
    }
    expect(b.keysOf(boot(1))).toEqual([key(1), key(2)]);
  });

  it("are tried up to a bound, and the one that has proven it is among them", () => {
    const b = new BootIds<string>();
    b.claim("a", boot(1), key(200));
    b.proven(boot(1), key(200));
    for (let i = 0; i < 100; i++) b.claim(`m${i}`, boot(1), key(i));
    expect(b.keysOf(boot(1))).toHaveLength(8);
    expect(b.keysOf(boot(1))[0]).toBe(key(200));
  });

  it("are one for each holder, and go with it", () => {
    const b = new BootIds<string>();
    b.claim("a", boot(1), key(1));
    b.claim("a", boot(2), key(1));
    expect([b.keysOf(boot(1)), b.keysOf(boot(2))]).toEqual([[], [key(1)]]);
    b.release("a");
    b.release("a");
    expect(b.keysOf(boot(2))).toEqual([]);
  });
});
