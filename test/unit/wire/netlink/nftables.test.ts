/** Shows which notifications of nf_tables say that something of a table was deleted, byte by byte. */
import { describe, expect, it } from "vitest";
import { tableOfDeletion } from "../../../../plugin/wire/netlink/nftables.js";

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
/** struct nfgenmsg of family inet, then the attribute 1: "wg0", its NUL, in 8 bytes. */
const WG0 = bytes("01 00 00 00  08 00 01 00 77 67 30 00");

describe("a notification of nf_tables", () => {
  it.each([
    ["NFT_MSG_DELTABLE", 0x0a02],
    ["NFT_MSG_DELCHAIN", 0x0a05],
    ["NFT_MSG_DELRULE", 0x0a08],
    ["NFT_MSG_DELSET", 0x0a0b],
  ])("%s names the table", (_, type) => {
    expect(tableOfDeletion({ type, payload: WG0 })).toBe("wg0");
  });

  it.each([
    ["NFT_MSG_NEWTABLE", 0x0a00],
    ["NFT_MSG_NEWRULE", 0x0a06],
    ["NFT_MSG_NEWGEN", 0x0a0f],
    ["a message of another subsystem", 0x0102],
  ])("%s is not a deletion", (_, type) => {
    expect(tableOfDeletion({ type, payload: WG0 })).toBeUndefined();
  });

  it.each(["", "01", "01 00 00 00", "01 00 00 00 ff ff 01 00", "01 00 00 00 04 00 02 00"])(
    "with the payload '%s' names nothing, and throws nothing",
    (hex) => {
      expect(tableOfDeletion({ type: 0x0a02, payload: bytes(hex) })).toBeUndefined();
    },
  );
});
