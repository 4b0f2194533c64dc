/** Targets: messages of the routing daemon's BGP speaker, and the session machine that takes them. */

import type { SessionConfig } from "../../../plugin/bgp/negotiation.js";
import { openOf } from "../../../plugin/bgp/negotiation.js";
import { Session, type SessionOutput } from "../../../plugin/bgp/session.js";
import { address, type Family, prefix } from "../../../plugin/net/address.js";
import { FLAG_PARTIAL } from "../../../plugin/wire/bgp/attribute-codes.js";
import {
  attributesKey,
  formatAsPath,
  type Nlri,
  type PathAttributes,
  pathAttributes,
  type UpdateContext,
} from "../../../plugin/wire/bgp/attributes.js";
import { community, largeCommunity } from "../../../plugin/wire/bgp/community.js";
import { encodeKeepalive, Framer, frame, MESSAGE } from "../../../plugin/wire/bgp/framer.js";
import {
  administrativeShutdown,
  decodeNotification,
  describeNotification,
  encodeNotification,
  notification,
} from "../../../plugin/wire/bgp/notification.js";
import { decodeOpen, encodeOpen } from "../../../plugin/wire/bgp/open.js";
import { decodeRouteRefresh, encodeRouteRefresh } from "../../../plugin/wire/bgp/route-refresh.js";
import {
  decodeUpdate,
  encodeEndOfRib,
  encodeReach,
  encodeWithdrawals,
  type Reach,
} from "../../../plugin/wire/bgp/update.js";
import { checkDecoded, holds, must, printable, Reader, same, type Target } from "../target.js";

const HEADER = 19;
const LONGEST = 4096 - HEADER;

/** The context that the first byte of an input names. */
const contextOf = (choice: number): UpdateContext => ({
  sessionType: (choice & 1) === 0 ? "ibgp" : "ebgp",
  fourOctetAs: (choice & 2) === 0,
  families: new Set<Family>((choice & 4) === 0 ? [4, 6] : [4]),
  addPath: new Set<Family>((choice & 8) === 0 ? [] : [4, 6]),
});

const full: PathAttributes = pathAttributes({
  nextHop: address("192.0.2.1"),
  origin: "egp",
  asPath: [
    { type: "sequence", ases: [65001, 4_200_000_000] },
    { type: "set", ases: [65002, 65003] },
  ],
  med: 7,
  localPref: 100,
  atomicAggregate: true,
  aggregator: { as: 4_200_000_001, address: address("192.0.2.9") },
  communities: [community("65000:1")],
  largeCommunities: [largeCommunity("65000:1:2")],
  originatorId: address("192.0.2.3"),
  clusterList: [address("192.0.2.4")],
  unknown: [{ flags: 0xc0, type: 99, value: Uint8Array.of(1, 2, 3) }],
});
const full6: PathAttributes = { ...full, nextHop: address("2001:db8::1") };
const nlri4: readonly Nlri[] = [
  { prefix: prefix("10.3.0.0/24"), pathId: 0 },
  { prefix: prefix("0.0.0.0/0"), pathId: 0 },
];
const nlri6: readonly Nlri[] = [{ prefix: prefix("2001:db8:3::/48"), pathId: 0 }];

/** Whole messages in a context. */
function messages(context: UpdateContext): readonly Uint8Array[] {
  return [
    ...must("seed", encodeReach({ attributes: full, nlri: nlri4 }, context)),
    ...(context.families.has(6)
      ? must("seed", encodeReach({ attributes: full6, nlri: nlri6 }, context))
      : []),
    ...encodeWithdrawals(4, nlri4, context),
    ...encodeWithdrawals(6, nlri6, context),
    encodeEndOfRib(4),
    encodeEndOfRib(6),
  ];
}

/** The attributes as they are sent again: what was not understood is marked, and in ascending order. */
const sent = (a: PathAttributes): string =>
  attributesKey({
    ...a,
    linkLocalNextHop: undefined,
    // attribute 16, extended communities, is carried without the mark
    unknown: a.unknown
      .map((u) => (u.type === 16 ? u : { ...u, flags: u.flags | FLAG_PARTIAL }))
      .sort((x, y) => x.type - y.type),
  });

/** What was announced is the same after it was sent on to a neighbour of the same kind. */
function announcedAgain(reach: Reach, context: UpdateContext): void {
  const encoded = encodeReach(reach, context);
  if (!encoded.ok) {
    holds("the error is empty", encoded.error !== "");
    return;
  }
  const nlri: Nlri[] = [];
  for (const m of encoded.value) {
    holds(`a message of ${m.length} bytes`, m.length <= HEADER + LONGEST);
    const outcome = decodeUpdate(m.subarray(HEADER), context);
    if (outcome.kind !== "ok") {
      holds(`encoded again: ${outcome.kind} ${outcome.reasons.join("; ")}`, false);
      continue;
    }
    for (const r of outcome.update.reach) {
      nlri.push(...r.nlri);
      // two octets cannot tell where the segments of confederations were
      if (context.fourOctetAs) same("attributes", sent(r.attributes), sent(reach.attributes));
      else formatAsPath(r.attributes.asPath);
    }
  }
  same("prefixes", nlri, reach.nlri);
}

const update: Target = {
  name: "bgp-update",
  longest: LONGEST,
  seeds: () =>
    [0, 1, 2, 4, 8].flatMap((choice) =>
      messages(contextOf(choice)).map((m) => Uint8Array.from([choice, ...m.subarray(HEADER)])),
    ),
  run: (input) => {
    const context = contextOf(input[0] ?? 0);
    const outcome = decodeUpdate(input.subarray(1), context);
    if (outcome.kind !== "ok")
      holds("no reason is given", outcome.reasons.every((r) => r !== "") && outcome.reasons.length > 0);
    if (outcome.kind === "session-reset") {
      describeNotification(outcome.notification);
      return;
    }
    if (outcome.kind === "treat-as-withdraw") same("announced", outcome.update.reach, []);
    for (const reach of outcome.update.reach) announcedAgain(reach, context);
  },
};

const config: SessionConfig = {
  name: "offers",
  localAs: 65000,
  remoteAs: 65000,
  routerId: address("127.0.0.2"),
  holdTime: 9,
  families: [4, 6],
  addPathReceive: true,
  askEndOfRib: true,
  backoff: { minMs: 1000, maxMs: 30_000 },
};
const theirs: SessionConfig = { ...config, routerId: address("10.255.0.2"), name: "daemon" };

const open: Target = {
  name: "bgp-open",
  longest: LONGEST,
  seeds: () => [
    encodeOpen(openOf(config)).slice(HEADER),
    encodeOpen(openOf({ ...config, localAs: 4_200_000_000, families: [4], addPathReceive: false })).slice(
      HEADER,
    ),
    Uint8Array.of(4, 0xfd, 0xe8, 0, 9, 10, 0, 0, 1, 255, 255, 0, 3, 2, 0, 0),
  ],
  run: (input) =>
    checkDecoded(decodeOpen(input), (o) => {
      // graceful restart that keeps routes is understood, and never sent
      const { capabilities: c } = o;
      const lasting = c.gracefulRestart === "forwarding";
      // without a family, and without the capability, IPv4 is implied
      const again = decodeOpen(
        encodeOpen({ ...o, capabilities: lasting ? { ...c, gracefulRestart: "none" } : c }).slice(HEADER),
      );
      if (!again.ok) return again;
      const { capabilities: d } = again.value;
      return {
        ok: true,
        value: {
          ...again.value,
          as: c.fourOctetAs ? again.value.as : o.as,
          capabilities: {
            ...d,
            gracefulRestart: lasting ? "forwarding" : d.gracefulRestart,
            families: c.families.size === 0 ? c.families : d.families,
          },
        },
      };
    }),
};

const notifications: Target = {
  name: "bgp-notification",
  longest: LONGEST,
  seeds: () => [
    encodeNotification(administrativeShutdown("maintenance, back soon")),
    encodeNotification(notification(6, 4, Uint8Array.of(3, 97, 98, 99))),
    encodeNotification(notification(2, 2)),
  ],
  run: (input) => {
    checkDecoded(decodeNotification(input), (n) => decodeNotification(encodeNotification(n)));
    const n = decodeNotification(input);
    if (!n.ok) return;
    const text = describeNotification(n.value);
    holds(`control characters reach a log: ${JSON.stringify(text)}`, printable(text));
  },
};

const refresh: Target = {
  name: "bgp-route-refresh",
  longest: 64,
  seeds: () => [encodeRouteRefresh(4, "request"), encodeRouteRefresh(6, "end")].map((m) => m.slice(HEADER)),
  run: (input) =>
    checkDecoded(decodeRouteRefresh(input), (r) => {
      const { family, subtype } = r;
      if (family === undefined || subtype === "unknown") return decodeRouteRefresh(input);
      return decodeRouteRefresh(encodeRouteRefresh(family, subtype).slice(HEADER));
    }),
};

const openBytes = encodeOpen(openOf(theirs));
const stream = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

const framer: Target = {
  name: "bgp-framer",
  longest: LONGEST,
  seeds: () => [
    stream(Uint8Array.of(7), openBytes, encodeKeepalive(), encodeEndOfRib(4)),
    stream(Uint8Array.of(0), frame(MESSAGE.NOTIFICATION, encodeNotification(notification(6, 2)))),
  ],
  run: (input) => {
    const size = (input[0] ?? 0) + 1;
    const bytes = input.subarray(1);
    const whole = new Framer();
    whole.push(bytes);
    const pieces = new Framer();
    const inPieces: unknown[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      pieces.push(bytes.slice(at, at + size));
      for (let f = pieces.next(); f !== undefined; f = pieces.next()) inPieces.push(f);
    }
    const atOnce: unknown[] = [];
    for (let f = whole.next(); f !== undefined; f = whole.next()) atOnce.push(f);
    same("in pieces and at once", inPieces, atOnce);
  },
};

/** Checks what a session says against what it said before. */
class SessionWatch {
  up = false;

  take(o: SessionOutput): void {
    switch (o.kind) {
      case "established":
        holds("established twice", !this.up);
        this.up = true;
        break;
      case "down":
        holds("down without established", this.up);
        this.up = false;
        break;
      case "routes":
        holds("routes without a session", this.up && o.changes.length > 0);
        break;
      case "send": {
        const f = new Framer();
        f.push(o.bytes);
        for (let m = f.next(); m !== undefined; m = f.next())
          holds("the session sends what is not BGP", m.kind === "message");
        break;
      }
      case "connect":
      case "close":
      case "end-of-rib":
      case "problem":
        break;
    }
  }
}

/** One step of a session, as the input says. */
function sessionStep(s: Session, r: Reader, now: number): void {
  switch (r.below(14)) {
    case 0:
      s.handleInput(now, { kind: "start" });
      break;
    case 1:
      s.handleInput(now, { kind: "connected" });
      break;
    case 2:
      s.handleInput(now, { kind: "bytes", bytes: openBytes });
      break;
    case 3:
      s.handleInput(now, { kind: "bytes", bytes: encodeKeepalive() });
      break;
    case 4:
      s.handleInput(now, { kind: "timeout" });
      break;
    case 5:
      s.handleInput(now, { kind: "closed", reason: "reset" });
      break;
    case 6:
      s.handleInput(now, { kind: "bytes", bytes: frame(MESSAGE.UPDATE, r.take(r.byte())) });
      break;
    case 7:
      s.handleInput(now, { kind: "bytes", bytes: frame(1 + r.below(6), r.take(r.byte())) });
      break;
    case 8:
      s.handleInput(now, { kind: "bytes", bytes: r.take(r.byte()) });
      break;
    case 9: {
      const some = messages(s.agreement?.receive ?? contextOf(0));
      s.handleInput(now, { kind: "bytes", bytes: some[r.below(some.length)] ?? openBytes });
      break;
    }
    case 10:
      s.announce([{ prefix: prefix(`10.${r.byte()}.0.0/16`), attributes: full }]);
      break;
    case 11:
      s.withdraw([prefix(`10.${r.byte()}.0.0/16`)]);
      break;
    case 12:
      s.handleInput(now, {
        kind: "bytes",
        bytes: encodeRouteRefresh(r.of([4, 6]), r.of(["request", "begin", "end"])),
      });
      break;
    default:
      s.handleInput(now, { kind: "stop", reason: "stop" });
      break;
  }
}

const session: Target = {
  name: "bgp-session",
  longest: 2048,
  seeds: () => [
    Uint8Array.of(0, 0, 0, 1, 0, 2, 0, 3, 0, 10, 7, 9, 0, 12, 0, 0, 4, 0, 9, 13),
    Uint8Array.of(0, 0, 0, 1, 0, 2, 0, 3, 0, 9, 1, 9, 0, 9, 2, 12, 0, 1, 9, 3, 12, 0, 2, 5, 0, 4, 255, 4),
    stream(
      Uint8Array.of(0, 0, 0, 1, 0, 2, 0, 3, 0, 6, 60),
      (messages(contextOf(0))[0] ?? openBytes).slice(HEADER),
    ),
  ],
  run: (input) => {
    const r = new Reader(input);
    const s = new Session(config, () => 0.5);
    const watch = new SessionWatch();
    let now = 0;
    while (r.left > 0) {
      now += r.byte() * 100;
      sessionStep(s, r, now);
      let said = 0;
      for (let o = s.pollOutput(); o !== undefined; o = s.pollOutput()) {
        watch.take(o);
        holds("outputs without end", ++said < 1000);
      }
      holds("the RIB is empty without a session", watch.up || s.ribIn.size === 0);
      const paths = [...s.ribIn].reduce((n, [, p]) => n + p.length, 0);
      holds(`the RIB counts ${s.ribIn.size} paths and has ${paths}`, paths === s.ribIn.size);
      const at = s.pollTimeout();
      holds(`the deadline ${at} is not a time`, at === undefined || Number.isFinite(at));
      if (s.stateName !== "Idle") holds("connected without a deadline", at !== undefined);
    }
  },
};

export const bgpTargets: readonly Target[] = [update, open, notifications, refresh, framer, session];
