/** Targets: text of routing daemons, of nft, of the operator and of former runs. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { formatConfigError, parseConfig } from "../../../plugin/config/config.js";
import { decodeGuarded, encodeGuarded } from "../../../plugin/driver/kernel/clear-guard.js";
import {
  address,
  formatEndpoint,
  parseAddress,
  parseEndpoint,
  parsePrefix,
  prefix,
} from "../../../plugin/net/address.js";
import type { Result } from "../../../plugin/net/result.js";
import { decodeRequest } from "../../../plugin/status/report.js";
import {
  type BirdReply,
  describeReplyError,
  isFailure,
  isRefused,
  ReplyDecoder,
} from "../../../plugin/wire/bird/reply.js";
import {
  matchesPattern,
  parseInterfaces,
  parseNumber,
  parseProtocols,
  parseRouterId,
  parseRoutes,
  parseStatics,
  parseTables,
  parseValue,
  parseVersion,
  sessionsWith,
} from "../../../plugin/wire/bird/show.js";
import {
  decodeAdvertised,
  decodeBgpRoute,
  decodeEstablished,
  decodeExternalLsa,
  decodeFilteredRoutes,
  decodeNeighbor,
  decodeOutgoing,
  decodeRouterId,
  decodeZebraRoutes,
  parseFrrVersion,
} from "../../../plugin/wire/frr/json.js";
import { parseRunningConfig } from "../../../plugin/wire/frr/running-config.js";
import { describeVtyError, VtyDecoder } from "../../../plugin/wire/frr/vty.js";
import { checkDecoded, holds, same, type Target, textOf, typed, utf8 } from "../target.js";

/** Replies of real daemons, as unit tests use them. */
const recordedIn = (folder: string): readonly Uint8Array[] =>
  readdirSync(folder)
    .sort()
    .map((name) => new Uint8Array(readFileSync(join(folder, name))));
const BIRD = "test/unit/wire/bird/recorded";
const FRR = "test/unit/wire/frr/recorded";
const LONGEST = 8192;

interface Stream<R, E> {
  push(bytes: Uint8Array): Result<readonly R[], E>;
}

/** A stream decoder says the same whether bytes come at once or in pieces. Returns the replies. */
function inPieces<R, E>(make: () => Stream<R, E>, bytes: Uint8Array, size: number): readonly R[] {
  const atOnce = make().push(bytes);
  typed(atOnce);
  const decoder = make();
  const replies: R[] = [];
  let failed = false;
  for (let at = 0; at < bytes.length && !failed; at += size) {
    const r = decoder.push(bytes.slice(at, at + size));
    if (r.ok) replies.push(...r.value);
    else {
      failed = true;
      same("after its first error", decoder.push(utf8("0000 \n")), r);
    }
  }
  same("an error in pieces and at once", failed, !atOnce.ok);
  if (atOnce.ok) same("replies in pieces and at once", replies, atOnce.value);
  return replies;
}

/** Reads a reply as each of the commands that could have asked for it. */
function shown(reply: BirdReply): void {
  isFailure(reply);
  isRefused(reply);
  parseVersion(reply);
  const protocols = parseProtocols(reply);
  sessionsWith(protocols, (n) => n.address === address("10.255.0.1"));
  parseTables(reply);
  for (const r of parseRoutes(reply)) holds(`route ${r.prefix}`, parsePrefix(r.prefix) === r.prefix);
  for (const r of parseStatics(reply)) holds(`static ${r.prefix}`, parsePrefix(r.prefix) === r.prefix);
  parseInterfaces(reply);
  parseRouterId(reply);
  parseValue(reply);
  const n = parseNumber(reply);
  holds(`number ${n}`, n === undefined || n >= 0);
}

const bird: Target = {
  name: "bird-reply",
  longest: LONGEST,
  seeds: () => recordedIn(BIRD).map((b) => Uint8Array.from([64, ...b])),
  words: [
    "\n",
    "0000 \n",
    "1002-",
    "1006-",
    "1007-",
    "1008-",
    "1012-",
    "9001 ",
    "8001 ",
    "  Channel ",
    "Table ",
    " ",
    "\t",
    "*",
    "[",
    "(100)",
    "+",
  ],
  run: (input) => {
    const replies = inPieces(() => new ReplyDecoder(), input.subarray(1), (input[0] ?? 0) + 1);
    for (const reply of replies) {
      shown(reply);
      matchesPattern(reply.last.text, "bgp1");
    }
    const r = new ReplyDecoder(100, 1000).push(input.subarray(1));
    if (!r.ok) holds("the error is empty", describeReplyError(r.error) !== "");
  },
};

const vty: Target = {
  name: "frr-vty",
  longest: LONGEST,
  seeds: () => [
    Uint8Array.from([16, ...utf8("FRRouting 8.4.4\n"), 0, 0, 0, 0, ...utf8("{}"), 0, 0, 0, 1]),
    Uint8Array.from([0, 0, 0, 0, 2]),
  ],
  words: ["\0", "\0\0\0\0", "\0\0\0"],
  run: (input) => {
    const bytes = input.subarray(1);
    const replies = inPieces(() => new VtyDecoder(), bytes, (input[0] ?? 0) + 1);
    for (const reply of replies) holds("a NUL in a reply", !reply.text.includes("\0"));
    const r = new VtyDecoder(100).push(bytes);
    if (!r.ok) holds("the error is empty", describeVtyError(r.error) !== "");
  },
};

const json: Target = {
  name: "frr-json",
  longest: LONGEST,
  seeds: () => recordedIn(FRR),
  words: [
    '"',
    ":",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "-1",
    "__proto__",
    "constructor",
    '{"vrfs":{"default":{"routerId":"1.2.3.4"}}}',
    '{"receivedRoutes":{"10.0.0.0/8":{}}}',
    "1e999",
    "\\u0000",
  ],
  run: (input) => {
    const text = textOf(input);
    typed(decodeBgpRoute(text));
    typed(decodeNeighbor(text, address("10.255.0.1")));
    typed(decodeAdvertised(text));
    typed(decodeEstablished(text));
    typed(decodeOutgoing(text, "10.255.0.1", 4));
    typed(decodeExternalLsa(text, prefix("10.3.0.0/24")));
    const filtered = decodeFilteredRoutes(text);
    typed(filtered);
    if (filtered.ok) for (const p of filtered.value ?? []) holds(`prefix ${p}`, parsePrefix(p) === p);
    typed(decodeZebraRoutes(text, prefix("10.3.0.0/24")));
    decodeRouterId(text, "default");
    parseFrrVersion(text);
  },
};

const runningConfig: Target = {
  name: "frr-running-config",
  longest: LONGEST,
  seeds: () => [
    new Uint8Array(readFileSync(join(FRR, "running-config.txt"))),
    ...recordedIn("frr-config/examples"),
  ],
  words: [
    "\n",
    " ",
    "router bgp ",
    "neighbor ",
    " peer-group",
    "route-map ",
    " permit ",
    "address-family ipv4 unicast",
    "exit",
    "__proto__",
    "!",
    "no ",
  ],
  run: (input) => {
    const text = textOf(input);
    const c = parseRunningConfig(text);
    same("the same text again", parseRunningConfig(text), c);
    parseRunningConfig(text, "red");
  },
};

const CONFIG = `role: spoke
overlay: wg0
vrf: { name: red, table: 10 }
address: 10.255.0.2
hubs: [10.255.0.1]
daemon: bird
bgp:
  as: 65000
  hold-time: 9
direct: { port: 51821, max-round-trip: { ratio: 1.5, margin: 2 ms } }
trigger:
  rate: 10 Mbit/s
  for: 5 s
endpoints: ["192.0.2.1:51821", "[2001:db8::1]:1"]
deny-candidates: [10.0.0.0/8]
guard: { except: [192.0.2.0/24] }
timers: { idle: 60 s }
log: info
`;

const config: Target = {
  name: "config",
  longest: 4096,
  seeds: () => [
    utf8(CONFIG),
    new Uint8Array(readFileSync("lab/topologies/triangle/a.yaml")),
    new Uint8Array(readFileSync("lab/topologies/triangle/b.yaml")),
  ],
  words: [
    "\n",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    "!!binary ",
    "|\n",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "__proto__: ",
    "constructor: ",
    "null",
    "~",
    ".inf",
    "0x10",
    "\t",
    "#",
    "'",
    '"',
    "ms",
    "Gbit/s",
  ],
  run: (input) => {
    const c = parseConfig(textOf(input));
    if (c.ok) return;
    holds("no error is given", c.error.length > 0);
    for (const e of c.error) {
      holds("the error is empty", e.problem !== "" && formatConfigError("f", e) !== "");
      holds(`position ${e.line}:${e.column}`, e.line >= 1 && e.column >= 1);
    }
  },
};

const guardFile: Target = {
  name: "guard-file",
  longest: 2048,
  seeds: () => [utf8(encodeGuarded([prefix("10.3.0.0/24"), prefix("2001:db8::/32")]))],
  words: ["shortcutd guard 1", "\n", "0.0.0.0/0", "::/0", "/33", "\r"],
  run: (input) =>
    checkDecoded(decodeGuarded(textOf(input)), (prefixes) => decodeGuarded(encodeGuarded(prefixes))),
};

const controlSocket: Target = {
  name: "control-socket",
  longest: 4096,
  seeds: () =>
    [
      { command: "status" },
      { command: "explain", query: "10.3.0.10" },
      { command: "timeline", since: 5 },
      { command: "purge", owner: "all" },
      { command: "guard" },
      { command: "forget", prefix: "10.3.0.0/24" },
    ].map((r) => utf8(JSON.stringify(r))),
  words: ['"command":', "null", "[]", "{}", "1e400", "__proto__", "\\ud800"],
  run: (input) => {
    const r = decodeRequest(textOf(input));
    if ("error" in r) {
      holds("the error is empty", r.error !== "");
      return;
    }
    // as text: JSON has no negative zero
    const text = JSON.stringify(r);
    same("decode, encode, decode", JSON.stringify(decodeRequest(text)), text);
  },
};

const addresses: Target = {
  name: "address",
  longest: 80,
  seeds: () =>
    [
      "10.255.0.1",
      "2001:db8::1",
      "::ffff:10.0.0.1",
      "10.0.0.0/8",
      "2001:db8::/32",
      "192.0.2.1:51821",
      "[fe80::1]:1",
    ].map(utf8),
  words: ["::", ":", ".", "/", "[", "]", "%", "0", "ffff", "255"],
  run: (input) => {
    const text = textOf(input);
    const a = parseAddress(text);
    if (a !== undefined) same("parse, format, parse", parseAddress(a), a);
    const p = parsePrefix(text);
    if (p !== undefined) same("parse, format, parse", parsePrefix(p), p);
    const e = parseEndpoint(text);
    if (e !== undefined) same("parse, format, parse", parseEndpoint(formatEndpoint(e)), e);
  },
};

export const textTargets: readonly Target[] = [
  bird,
  vty,
  json,
  runningConfig,
  config,
  guardFile,
  controlSocket,
  addresses,
];
