/**
 * The thread of probes: sockets on the direct interface and a {@link ProbeRelay}, apart from the main thread so that what keeps that one busy neither
 * delays a probe nor makes arrived ones look late. Started by probes.ts with the socket's address; ends when it is told to.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type DatagramSocket, PortError } from "../../driver/ports.js";
import type { Address, Endpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { isLinkLocal } from "../../shortcut/probe/link-local.js";
import { type ProbeEvent, ProbeRelay } from "../../shortcut/probe/relay.js";
import { decodeProbe, encodeProbe } from "../../wire/probe.js";
import { keepTime } from "../linux/scheduling.js";
import { nodeClock } from "../process/clock.js";
import { datagramAdapter } from "./datagram.js";
import type { FromProbes, PlainError, ProbeBind, ToProbes } from "./probe-messages.js";

const port = parentPort;
if (port === null) throw new Error("probe-worker is started by probes.ts, not by itself");

const clock = nodeClock();
const relay = new ProbeRelay(Math.random, clock.now());
const endpoints = new Map<PublicKey, Endpoint>();
const keys = new Map<Address, PublicKey>();
/** By whether their own address is link-local. */
const sockets = new Map<boolean, DatagramSocket>();
let armed = { at: Number.POSITIVE_INFINITY, cancel: (): void => {} };
/** A problem that repeats with every probe is said once a while. */
const said = new Map<string, number>();
const REPEAT_MS = 10_000;

const post = (message: FromProbes): void => port.postMessage(message);

const plain = (e: unknown): PlainError => {
  if (e instanceof PortError) return { place: e.place, problem: e.problem, remedy: e.remedy, code: e.code };
  const problem = e instanceof Error ? e.message : String(e);
  return { place: "thread of probes", problem, remedy: "", code: undefined };
};

function problem(e: PortError): void {
  const now = clock.now();
  const before = said.get(e.message);
  if (before !== undefined && now - before < REPEAT_MS) return;
  if (said.size > 100) said.clear();
  said.set(e.message, now);
  post({ kind: "problem", error: plain(e) });
}

function settle(): void {
  const events: ProbeEvent[] = [];
  for (;;) {
    const o = relay.pollOutput();
    if (o === undefined) break;
    if (o.kind === "event") events.push(o.event);
    else {
      const to = endpoints.get(o.key);
      if (to !== undefined) sockets.get(isLinkLocal(to.address))?.send(to, encodeProbe(o.probe));
    }
  }
  if (events.length > 0) post({ kind: "events", events });
  arm();
}

function arm(): void {
  const now = clock.now();
  const at = relay.pollTimeout(now) ?? Number.POSITIVE_INFINITY;
  if (at === armed.at) return;
  armed.cancel();
  armed = { at, cancel: () => {} };
  if (at === Number.POSITIVE_INFINITY) return;
  // what has arrived is read before silence is judged, and before a probe says what was heard
  const due = (): void =>
    clock.afterReading(() => {
      armed = { at: Number.POSITIVE_INFINITY, cancel: () => {} };
      relay.handleTimeout(clock.now());
      settle();
    });
  armed.cancel = clock.after(Math.max(0, at - now), due);
}

function arrived(from: Endpoint, payload: Uint8Array): void {
  const key = keys.get(from.address);
  const probe = decodeProbe(payload);
  if (key === undefined || !probe.ok) return;
  relay.receive(clock.now(), key, probe.value);
  settle();
}

function unset(key: PublicKey): void {
  relay.unset(key);
  forgetAddress(key);
}

function forgetAddress(key: PublicKey): void {
  const before = endpoints.get(key);
  if (before !== undefined) keys.delete(before.address);
  endpoints.delete(key);
}

port.on("message", (m: ToProbes) => {
  switch (m.kind) {
    case "set":
      forgetAddress(m.key);
      endpoints.set(m.key, m.to);
      keys.set(m.to.address, m.key);
      relay.set(clock.now(), m.key, m.session);
      if (m.heard !== undefined) relay.receive(m.heard.at, m.key, m.heard.probe);
      settle();
      return;
    case "unset":
      unset(m.key);
      return;
    case "renew":
      relay.renew(clock.now());
      post({ kind: "renewed" });
      settle();
      return;
    case "close":
      armed.cancel();
      end();
      return;
  }
});

/** Ends the thread, which lives as long as its sockets and its port. */
function end(): void {
  void Promise.allSettled([...sockets.values()].map((s) => s.close())).finally(() => port?.close());
}

try {
  const bind = workerData as ProbeBind;
  const { dev, port: udpPort } = bind;
  for (const address of bind.addresses)
    sockets.set(
      isLinkLocal(address),
      await datagramAdapter().open({ dev, address, port: udpPort }, arrived, problem),
    );
  if (keepTime() === "ordinary")
    problem(
      new PortError(
        "thread of probes",
        "has no priority: a busy machine can make a path that works look silent",
        "grant CAP_SYS_NICE, as doc/shortcutd.service does",
      ),
    );
  post({ kind: "open" });
  settle();
} catch (e) {
  post({ kind: "failed", error: plain(e) });
  end();
}
