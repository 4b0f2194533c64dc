/** WireGuard keys in base64, hex and bytes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  keyBytes,
  keyHex,
  parsePrivateKey,
  parsePublicKey,
  publicKeyFromBytes,
  shortKey,
} from "../../../plugin/net/key.js";

describe("WireGuard keys", () => {
  it("read as wg(8) writes them", () => {
    const text = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
    expect(parsePublicKey(text)).toBe(text);
    const key = publicKeyFromBytes(new Uint8Array(32).fill(0xff));
    expect(key).toBe("//////////////////////////////////////////8=");
    expect(keyHex(key)).toBe("ff".repeat(32));
    expect(shortKey(key)).toBe("////////…");
  });

  it("are one text per 32 bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const key = publicKeyFromBytes(bytes);
        expect(parsePublicKey(key)).toBe(key);
        expect(parsePrivateKey(key)).toBe(key);
        expect(keyBytes(key)).toEqual(bytes);
      }),
    );
  });

  it.each([
    "",
    "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw",
    "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykx=", // bits beyond the 32nd byte are set
    "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8yk==",
    " HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
    "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8y_w=",
  ])("%j is none", (text) => {
    expect(parsePublicKey(text)).toBeUndefined();
  });

  it("have 32 bytes", () => {
    expect(() => publicKeyFromBytes(new Uint8Array(31))).toThrow("32 bytes, not 31");
  });
});
