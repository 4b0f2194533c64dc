/**
 * Checks the design's invariants over a simulated world's kernel state; each throws with its name,
 * the router and the figures.
 */
import { contains, hostPrefix, type Prefix } from "../../plugin/net/address.js";
import { defaultParameters as p } from "../../plugin/shortcut/parameters.js";
import { linkLocalOf } from "../../plugin/shortcut/probe/link-local.js";
import type { Router } from "./router.js";
import type { World } from "./world.js";

/** Bound for a peer without a selection: the fall back, the other end's silence and the drain. */
const DRAIN_BOUND = p.overrideAfter * 2 + p.remoteHold + 2 * p.drain + 200;
/**
 * Bound after a restart of the other end, until probes notice: detection (the slow one: the path
 * may carry no traffic), a delayed FIB, and the flight of a packet.
 */
const RESTART_GRACE = p.probeIdle * p.probeMultiplier + 500;

function fail(name: string, r: Router, text: string): never {
  throw new Error(`invariant ${name} at ${r.address}, t=${r.world.now.toFixed(0)}: ${text}`);
}

export function checkRouter(world: World, r: Router): void {
  if (r.hub) return;
  for (const [key, peer] of r.peers) {
    const owner = world.byKey.get(key);
    if (owner === undefined) fail("attested", r, "peer with an unknown key");
    if (owner.hub) continue;
    subordination(world, r, owner, peer.since);
    attested(r, owner, peer.allowedIps);
  }
  noBlackHole(world, r);
}

function subordination(world: World, r: Router, owner: Router, since: number): void {
  const selectedNow = r.daemon.selected.has(owner.site);
  if (selectedNow) {
    r.selectedAt.set(owner.address, world.now);
    return;
  }
  if (since === world.now) fail("subordination", r, `peer ${owner.address} made without a selection`);
  const last = r.selectedAt.get(owner.address) ?? Number.NEGATIVE_INFINITY;
  if (world.now - last > DRAIN_BOUND)
    fail(
      "subordination",
      r,
      `peer ${owner.address} since ${since}, last selected ${(world.now - last).toFixed(0)} ms ago`,
    );
}

function attested(r: Router, owner: Router, allowed: readonly Prefix[]): void {
  const may = [hostPrefix(owner.address), hostPrefix(linkLocalOf(owner.key)), owner.site];
  for (const a of allowed)
    if (!may.some((m) => contains(m, a))) fail("attested", r, `AllowedIPs of ${owner.address} hold ${a}`);
}

function noBlackHole(world: World, r: Router): void {
  for (const prefix of r.daemon.selected.keys()) {
    if (r.path(prefix) !== "direct") continue;
    const owner = world.ownerOf.get(prefix);
    if (owner === undefined) fail("no black hole", r, `${prefix} goes direct and has no owner`);
    const there = r.peers.get(owner.key);
    const back = owner.peers.get(r.key);
    if (there === undefined && world.now - r.startedAt > RESTART_GRACE)
      fail("no black hole", r, `${prefix} goes direct without a peer`);
    if (there !== undefined && !there.allowedIps.some((a) => contains(a, prefix)))
      fail("no black hole", r, `${prefix} goes direct, AllowedIPs do not hold it`);
    const accepted = back?.allowedIps.some((a) => contains(a, r.site)) ?? false;
    if (!accepted && world.now - owner.startedAt > RESTART_GRACE)
      fail("no black hole", r, `${prefix} goes direct, ${owner.address} does not accept ${r.site}`);
  }
}
