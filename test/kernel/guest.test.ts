/**
 * Shows what needs a kernel with WireGuard, VRFs and a clock of its own, in a guest
 * (lab/plays/guest/guest.ts): the generic-netlink backend by itself, and the triangle with it.
 * Where QEMU or a kernel cannot be had, the tests are skipped and say why.
 */
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { type GuestResult, type Program, runGuest } from "../../lab/plays/guest/guest.js";

const repository = fileURLToPath(new URL("../..", import.meta.url));

/** How many things each program tries: one that ends early has not passed. */
const TRIES: Readonly<Record<Program, number>> = { genl: 8, triangle: 9, vrf: 10 };

describe("in a guest", () => {
  let guest: GuestResult | undefined;
  beforeAll(async () => {
    guest = await runGuest(["genl", "triangle"], { repository, timeout: 400_000 });
    if (guest.kind === "skipped") console.warn(`skipped: ${guest.reason}`);
  }, 1_000_000);

  it.for([
    ["genl", "the kernel's WireGuard by generic netlink"],
    ["triangle", "the triangle with the kernel's WireGuard, and the clock stepped by an hour"],
  ] as const)("%s: %s", ([program], { skip }) => {
    if (guest === undefined) throw new Error("the guest did not run");
    if (guest.kind === "skipped") return skip(guest.reason);
    const r = guest.results.get(program);
    expect(r?.tried.filter((t) => !t.ok).map((t) => `${t.name}: ${t.said}`)).toEqual([]);
    expect(r?.status, r?.output).toBe(0);
    expect(r?.tried.length, r?.output).toBe(TRIES[program]);
  });
});
