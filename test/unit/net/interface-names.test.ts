/** Names and patterns of interfaces: which names belong to them, what may be written as one, and the short name of several. */
import { describe, expect, it } from "vitest";
import { InterfaceNames, isInterfacePattern } from "../../../plugin/net/interface-names.js";

describe("interface names", () => {
  it("are those that are listed, and those that begin as a pattern does", () => {
    const names = new InterfaceNames(["wg0", "wg-*"]);
    expect(["wg0", "wg-", "wg-hub1"].map((n) => names.has(n))).toEqual([true, true, true]);
    expect(["wg", "wg00", "xwg-1", "WG0", ""].map((n) => names.has(n))).toEqual(Array(5).fill(false));
    expect(names.open).toBe(true);
    expect(new InterfaceNames(["wg0"]).open).toBe(false);
    expect(String(names)).toBe("wg0, wg-*");
  });

  it.each(["wg0", "wg-hub1", "a", "abcdefghijklmno", "abcdefghijklmno*", "wg-*", "wg.7"])(
    "%s is one",
    (text) => {
      expect(isInterfacePattern(text)).toBe(true);
    },
  );

  it.each(["", "*", "abcdefghijklmnop", "a b", "a/b", "wg-*x", "wg**", "*wg"])("%j is none", (text) => {
    expect(isInterfacePattern(text)).toBe(false);
  });
});

describe("the short name", () => {
  const id = (...patterns: string[]) => new InterfaceNames(patterns).id;

  it("of a single interface is its own", () => {
    expect(id("wg0")).toBe("wg0");
    expect(id("a23456789012345")).toBe("a23456789012345");
  });

  it("of others is longer than any interface's, the same in any order, and of them alone", () => {
    expect(id("wg1", "wg0")).toMatch(/^wg0_[0-9a-f]{16}$/);
    expect(id("wg0", "wg1")).toBe(id("wg1", "wg0"));
    expect(id("wg-*")).toMatch(/^wg-_[0-9a-f]{16}$/);
    const all = [
      id("wg-*"),
      id("wg-"),
      id("wg0", "wg1"),
      id("wg0", "wg2"),
      id("wg0", "wg1", "wg2"),
      id("wg0", "wg1*"),
    ];
    expect(new Set(all).size).toBe(all.length);
  });
});
