/** The number of our routes is the same in the code, in the file that names it for ip(8), and in the documents; and it is nobody else's. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { RTPROT_SHORTCUTD } from "../../../plugin/driver/kernel/fib-view.js";
import { documents, textOf } from "./markdown.js";

const numbersIn = (text: string): number[] =>
  text.split("\n").flatMap((l) => (/^\d+\s+\S/.test(l) ? [Number.parseInt(l, 10)] : []));

/** iproute2's etc/iproute2/rt_protos and FRR's zebra/rt_netlink.h, the newest of both; Calico's 80, and 84 for OVN. */
const TAKEN = [
  0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 42, 80, 84, 99, 186, 187, 188, 189, 190, 191, 192,
  193, 194, 195, 196, 197, 198,
];

it("the shipped file names the number of the code", () => {
  expect(numbersIn(textOf("doc/rt_protos.d/shortcutd.conf"))).toEqual([RTPROT_SHORTCUTD]);
});

it("nobody else has the number", () => {
  expect(TAKEN).not.toContain(RTPROT_SHORTCUTD);
  expect(numbersIn(readFileSync("/etc/iproute2/rt_protos", "utf8"))).not.toContain(RTPROT_SHORTCUTD);
});

it("the documents and the shipped configuration say the same number", () => {
  const said = [...documents(), "frr-config/shortcut.conf"].flatMap((d) =>
    [...textOf(d).matchAll(/\bprotocol (?:number )?(\d+)\b(?!,\s+which is Open)/g)].map((m) => Number(m[1])),
  );
  expect(said.length).toBeGreaterThan(3);
  expect([...new Set(said)]).toEqual([RTPROT_SHORTCUTD]);
});
