/** The interfaces of FRR's paths: what is asked, what is kept, and when it is asked again. */
import { beforeEach, expect, it } from "vitest";
import type { RibPath } from "../../../../plugin/bgp/rib.js";
import { PathInterfaces } from "../../../../plugin/driver/daemon/path-interfaces.js";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { pathAttributes } from "../../../../plugin/wire/bgp/attributes.js";

const P = prefix("10.1.0.0/24");
const Q = prefix("10.2.0.0/24");

let feed: Map<Prefix, RibPath[]>;
let due: number;
let paths: PathInterfaces;

const path = (pathId: number): RibPath => ({
  pathId,
  attributes: pathAttributes({ nextHop: address("10.255.1.1") }),
});
const fed = (p: Prefix, ...ids: number[]): void => {
  feed.set(p, ids.map(path));
  paths.feedChanged([p]);
};
const answer = (given: Readonly<Record<number, string>>) =>
  new Map(Object.entries(given).map(([id, dev]) => [Number(id), dev]));

beforeEach(() => {
  feed = new Map();
  due = 0;
  paths = new PathInterfaces({ pathsOf: (p) => feed.get(p) ?? [] }, () => void due++, 2);
});

it("are asked for when they are first needed, once", () => {
  fed(P, 1, 2);
  expect(paths.isDue).toBe(false);
  expect(paths.of(P, 1)).toBeUndefined();
  expect(paths.of(P, 2)).toBeUndefined();
  expect(due).toBe(1);
  expect(paths.next()).toBe(P);
  expect(paths.next()).toBeUndefined();
  expect(paths.learn(P, answer({ 1: "wg-hub1", 2: "wg-hub2" }))).toBe(true);
  expect(paths.of(P, 1)).toEqual({ dev: "wg-hub1" });
  expect(paths.of(P, 2)).toEqual({ dev: "wg-hub2" });
  expect(paths.isDue).toBe(false);
});

it("of paths that bgpd names no interface for are known as such, and not asked for again and again", () => {
  fed(P, 0);
  paths.of(P, 0);
  paths.next();
  expect(paths.learn(P, answer({}))).toBe(true);
  expect(paths.of(P, 0)).toEqual({ dev: undefined });
  expect(paths.isDue).toBe(false);
});

it("of the remaining paths are kept when another one is withdrawn, and confirmed by a new answer", () => {
  fed(P, 1, 2);
  paths.learn(P, answer({ 1: "wg-hub1", 2: "wg-hub2" }));
  fed(P, 2);
  expect(paths.of(P, 2)).toEqual({ dev: "wg-hub2" });
  expect(paths.next()).toBe(P);
  expect(paths.learn(P, answer({ 2: "wg-hub2" }))).toBe(false);
  // the identifier comes back with another neighbour's path
  fed(P, 1, 2);
  expect(paths.of(P, 1)).toBeUndefined();
  expect(paths.next()).toBe(P);
  expect(paths.learn(P, answer({ 1: "wg-hub3", 2: "wg-hub2" }))).toBe(true);
  expect(paths.of(P, 1)).toEqual({ dev: "wg-hub3" });
});

it("that have changed are told", () => {
  fed(P, 1);
  paths.learn(P, answer({ 1: "wg-hub1" }));
  expect(paths.learn(P, answer({ 1: "wg-hub1" }))).toBe(false);
  expect(paths.learn(P, answer({ 1: "wg-hub2" }))).toBe(true);
});

it("of a prefix that the feed has lost are forgotten", () => {
  fed(P, 1);
  paths.learn(P, answer({ 1: "wg-hub1" }));
  feed.delete(P);
  paths.feedChanged([P]);
  expect(paths.learn(P, answer({ 1: "wg-hub1" }))).toBe(false);
  fed(P, 1);
  expect(paths.of(P, 1)).toBeUndefined();
});

it("are asked for again when the question has failed", () => {
  fed(P, 1);
  paths.of(P, 1);
  expect(paths.next()).toBe(P);
  paths.failed(P);
  expect(due).toBe(1);
  expect(paths.next()).toBe(P);
});

it("are kept for a bounded number of prefixes, and for none when the feed's session has ended", () => {
  for (const p of [P, Q, prefix("10.3.0.0/24")]) {
    fed(p, 1);
    paths.learn(p, answer({ 1: "wg-hub1" }));
  }
  expect(paths.of(Q, 1)).toBeDefined();
  expect(paths.of(P, 1)).toBeUndefined();
  paths.clear();
  expect(paths.isDue).toBe(false);
  expect(paths.of(Q, 1)).toBeUndefined();
});
