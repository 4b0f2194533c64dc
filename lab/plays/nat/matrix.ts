/**
 * Every pair of NATs, and what becomes of a shortcut between them: direct, by which candidate and
 * how fast; or via the hub, without a loss and with a verdict. Prints a table and writes it into
 * doc/nat.md; a cell that is not as RFC 4787 lets expect fails the run.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describeRepetition, type Repetition, repeatedWhenStarved } from "../../runner/retry.js";
import { SPOKES, type Spoke } from "../../site/triangle.js";
import { type NatAttempt, type NatOptions, type NatSite, natSite } from "./site.js";

/** Kinds of nat.sh: how they map and filter. */
export const KINDS = {
  "ei-ei": { mapping: "easy", filter: "none" },
  "ei-ad": { mapping: "easy", filter: "address" },
  "ei-apd": { mapping: "easy", filter: "port" },
  masquerade: { mapping: "easy", filter: "port" },
  "masquerade-open": { mapping: "easy", filter: "port" },
  random: { mapping: "hard", filter: "port" },
  forwarded: { mapping: "easy", filter: "none" },
} as const;
export type Kind = keyof typeof KINDS;
const ALL = Object.keys(KINDS) as Kind[];

export interface Cell {
  readonly a: string;
  readonly c: string;
  readonly expect: "direct" | "hub";
  /** Kinds of candidate of which one has to be used. */
  readonly candidates?: readonly string[];
  /** The endpoint in use matches this. */
  readonly endpoint?: RegExp;
  set(site: NatSite): Promise<void>;
  /** Undoes what another cell would not. */
  unset?(site: NatSite): Promise<void>;
}

/**
 * RFC 4787: a mapping that changes with the destination passes only where the other end filters by
 * address at most.
 */
function expected(a: Kind, c: Kind): "direct" | "hub" {
  const [x, y] = [KINDS[a], KINDS[c]];
  if (x.mapping === "easy" && y.mapping === "easy") return "direct";
  if (x.mapping === "hard" && y.mapping === "hard") return "hub";
  const easy = x.mapping === "easy" ? x : y;
  return easy.filter === "port" ? "hub" : "direct";
}

export const pair = (a: Kind, c: Kind): Cell => ({
  a,
  c,
  expect: expected(a, c),
  candidates: ["reflexive", "peer-reflexive"],
  set: async (site) => {
    await site.nat("a", a);
    await site.nat("c", c);
  },
});

const behindOne = async (site: NatSite, kind: string): Promise<void> => {
  await site.sh("na", `sh /run/lab/lab/topologies/nat/nat.sh ${kind} eth1 192.168.1.10 192.168.4.10`);
  await site.sh(
    "c",
    "ip address add 192.168.4.10/24 dev eth4; ip address del 192.168.3.10/24 dev eth1; ip route replace default via 192.168.4.1",
  );
};
const apart = (site: NatSite): Promise<unknown> =>
  site.sh(
    "c",
    "ip address del 192.168.4.10/24 dev eth4; ip address add 192.168.3.10/24 dev eth1; ip route replace default via 192.168.3.1",
  );

const carrier = async (site: NatSite, s: Spoke): Promise<void> => {
  const [box, gateway] = s === "a" ? ["na", "100.64.1.1"] : ["nc", "100.64.3.1"];
  await site.sh(box, `ip route replace default via ${gateway}`);
  await site.nat(s, "masquerade", "eth3");
};
const noCarrier = async (site: NatSite, s: Spoke): Promise<void> => {
  const [box, gateway] = s === "a" ? ["na", "192.0.2.1"] : ["nc", "192.0.2.129"];
  await site.sh(box, `ip route replace default via ${gateway}`);
};

/** The same at A, then at C. */
const onBoth =
  (act: (site: NatSite, s: Spoke) => Promise<unknown>) =>
  async (site: NatSite): Promise<void> => {
    for (const s of SPOKES) await act(site, s);
  };

const masquerades = onBoth((site, s) => site.nat(s, "masquerade"));

/** A stateful firewall for IPv6, as home routers have it. */
const FIREWALL6 =
  "nft 'table ip6 fw { chain f { type filter hook forward priority 0; ct state established,related accept; iifname eth1 meta l4proto udp drop; }; }'";
const site6 = {
  a: ["2001:db8:a:1::10", "2001:db8:a:1::1"],
  c: ["2001:db8:c:1::10", "2001:db8:c:1::1"],
} as const;
const ipv6 = async (site: NatSite, s: Spoke): Promise<void> => {
  await site.sh(s === "a" ? "na" : "nc", FIREWALL6);
  await site.sh(
    s,
    `ip address add ${site6[s][0]}/64 dev eth1 nodad; ip -6 route replace default via ${site6[s][1]}`,
  );
};
const noIpv6 = async (site: NatSite, s: Spoke): Promise<void> => {
  await site.sh(s === "a" ? "na" : "nc", "nft delete table ip6 fw");
  await site.sh(s, `ip -6 route del default; ip address del ${site6[s][0]}/64 dev eth1`);
};

/** Pairs that are more than two NAT behaviours. */
export const SPECIAL: Readonly<Record<string, Cell>> = {
  "same-lan": {
    a: "masquerade",
    c: "masquerade, on the same LAN",
    expect: "direct",
    candidates: ["host"],
    endpoint: /^192\.168\.50\.2 /,
    set: async (site) => {
      await masquerades(site);
      await site.sh("a", "ip address add 192.168.50.1/24 dev eth4");
      await site.sh("c", "ip address add 192.168.50.2/24 dev eth5");
    },
    unset: async (site) => {
      await site.sh("a", "ip address del 192.168.50.1/24 dev eth4");
      await site.sh("c", "ip address del 192.168.50.2/24 dev eth5");
    },
  },
  "same-nat": {
    a: "masquerade",
    c: "behind the same NAT, routed",
    expect: "direct",
    candidates: ["host"],
    set: async (site) => behindOne(site, "masquerade"),
    unset: async (site) => void (await apart(site)),
  },
  hairpin: {
    a: "endpoint-independent, hairpinning",
    c: "behind the same NAT, isolated",
    expect: "direct",
    candidates: ["reflexive", "peer-reflexive"],
    endpoint: /^192\.0\.2\.2 51822$/,
    set: async (site) => behindOne(site, "shared-hairpin"),
    unset: async (site) => void (await apart(site)),
  },
  "no-hairpin": {
    a: "endpoint-independent, not hairpinning",
    c: "behind the same NAT, isolated",
    expect: "hub",
    set: async (site) => behindOne(site, "shared"),
    unset: async (site) => void (await apart(site)),
  },
  "double-a": {
    a: "masquerade behind masquerade",
    c: "masquerade",
    expect: "direct",
    candidates: ["reflexive", "peer-reflexive"],
    set: async (site) => {
      await masquerades(site);
      await carrier(site, "a");
    },
    unset: (site) => noCarrier(site, "a"),
  },
  "double-both": {
    a: "masquerade-open behind masquerade",
    c: "masquerade behind masquerade",
    expect: "direct",
    candidates: ["reflexive", "peer-reflexive"],
    set: async (site) => {
      await onBoth(carrier)(site);
      await site.nat("a", "masquerade-open", "eth3");
    },
    unset: onBoth(noCarrier),
  },
  firewall: {
    a: "masquerade",
    c: "masquerade, UDP between them dropped",
    expect: "hub",
    set: async (site) => {
      await masquerades(site);
      await site.sh(
        "inet",
        "nft 'table ip cut { chain c { type filter hook forward priority -10; ip saddr 192.0.2.2 ip daddr 192.0.2.130 meta l4proto udp drop; ip saddr 192.0.2.130 ip daddr 192.0.2.2 meta l4proto udp drop; }; }'",
      );
    },
    unset: async (site) => void (await site.sh("inet", "nft delete table ip cut")),
  },
  "v6-only": {
    a: "IPv6 only, stateful firewall",
    c: "IPv6 only, stateful firewall",
    expect: "direct",
    candidates: ["host"],
    endpoint: /^2001:db8:c:1::10 /,
    set: async (site) => {
      for (const s of ["a", "c"] as const) {
        await ipv6(site, s);
        const key = await site.hubKey(s);
        // IPv4 goes first, or a packet of the hub's would take the endpoint back
        await site.sh(
          s,
          `ip -4 address flush dev eth1; wg set wg0 peer ${key} endpoint [2001:db8:b::2]:51820`,
        );
      }
    },
    unset: async (site) => {
      for (const s of ["a", "c"] as const) {
        const n = s === "a" ? 1 : 3;
        const key = await site.hubKey(s);
        await noIpv6(site, s);
        await site.sh(
          s,
          `ip address add 192.168.${n}.10/24 dev eth1; ip route replace default via 192.168.${n}.1; wg set wg0 peer ${key} endpoint 192.0.2.66:51820`,
        );
      }
    },
  },
  "dual-stack": {
    a: "random, IPv6 with a stateful firewall",
    c: "random, IPv6 with a stateful firewall",
    expect: "direct",
    candidates: ["host"],
    endpoint: /^2001:db8:c:1::10 /,
    set: async (site) => {
      await onBoth((x, s) => x.nat(s, "random"))(site);
      await onBoth(ipv6)(site);
    },
    unset: onBoth(noIpv6),
  },
  mixed: {
    a: "masquerade, IPv4 only",
    c: "masquerade, dual stack",
    expect: "direct",
    candidates: ["reflexive", "peer-reflexive"],
    endpoint: /^192\.0\.2\.130 /,
    set: async (site) => {
      await masquerades(site);
      await ipv6(site, "c");
    },
    unset: (site) => noIpv6(site, "c"),
  },
};

export interface CellResult {
  readonly cell: Cell;
  readonly attempt: NatAttempt | undefined;
  /** Empty when everything is as it was expected. */
  readonly problem: string;
  /**
   * Tries before this one, which failed while the machine was starved; empty when this was the
   * first.
   */
  readonly repetitions: readonly Repetition[];
}

/** Every expectation of a cell that does not hold, in words. */
export function judgeCell(cell: Cell, attempt: NatAttempt): string {
  const out: string[] = [];
  if (attempt.path !== cell.expect) out.push(`${attempt.path}, expected ${cell.expect}: ${attempt.reason}`);
  else if (attempt.path === "direct") {
    if (cell.candidates?.includes(attempt.candidate) === false)
      out.push(`by a ${attempt.candidate} candidate, expected ${cell.candidates.join(" or ")}`);
    if (cell.endpoint?.test(attempt.endpoint) === false) out.push(`by ${attempt.endpoint}`);
  } else {
    if (attempt.tries > 1) out.push(`${attempt.tries} attempts`);
    if (!attempt.reason.startsWith("no answer from ")) out.push(`verdict: ${attempt.reason}`);
  }
  if (attempt.lost.some((n) => n > 0)) out.push(`lost ${attempt.lost.join(" and ")} packets`);
  return out.join("; ");
}

export interface MatrixOptions extends NatOptions {
  /** Undefined: every pair, and everything special. */
  readonly cells?: readonly Cell[];
}

const everyCell = (): Cell[] => [
  ...ALL.flatMap((a) => ALL.map((c) => pair(a, c))),
  ...Object.values(SPECIAL),
];

export async function runMatrix(options: MatrixOptions): Promise<CellResult[]> {
  const say = options.onLine ?? (() => undefined);
  const site = await natSite(options);
  const results: CellResult[] = [];
  try {
    for (const cell of options.cells ?? everyCell()) {
      const { value, repetitions } = await repeatedWhenStarved(() => tryCell(site, cell), {
        problem: (r) => (r.problem === "" ? undefined : r.problem),
        onRepeat: (r) => say(`${cell.a} x ${cell.c}: ${describeRepetition(r)}`),
      });
      const result = { ...value, repetitions };
      results.push(result);
      say(line(result));
    }
  } finally {
    await site.down();
  }
  return results;
}

/** One attempt through one pair of NATs, which are as before afterwards. */
async function tryCell(site: NatSite, cell: Cell): Promise<Omit<CellResult, "repetitions">> {
  try {
    await cell.set(site);
    const attempt = await site.attempt();
    return { cell, attempt, problem: judgeCell(cell, attempt) };
  } catch (e) {
    return { cell, attempt: undefined, problem: e instanceof Error ? e.message : String(e) };
  } finally {
    await site.quiet();
    await cell.unset?.(site);
  }
}

const outcome = ({ attempt, problem, repetitions }: CellResult): readonly [string, string, string] => {
  const before = repetitions.map((r) => oneLine(r.problem)).join("; ");
  const which = before === "" ? "" : `, try ${repetitions.length + 1} (before, machine starved: ${before})`;
  if (attempt === undefined) return ["failed", "", oneLine(problem) + which];
  const path = problem === "" ? attempt.path : `**${attempt.path}**`;
  const by = attempt.path === "direct" ? `${attempt.candidate}, ${attempt.endpoint}` : "";
  return [path, by, `${attempt.took.toFixed(0)} ms${which}`];
};

/** Fit for a cell of a table. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").replaceAll("|", "/").slice(0, 160);
}

function line(r: CellResult): string {
  const [path, by, took] = outcome(r);
  const told = r.problem === "" ? "" : `  NOT AS EXPECTED: ${r.problem}`;
  return `${r.cell.a.padEnd(34)} ${r.cell.c.padEnd(38)} ${path.padEnd(8)} ${by.padEnd(38)} ${took}${told}`;
}

/** The rows of doc/nat.md. */
export function markdown(results: readonly CellResult[]): string {
  const rows = results.map((r) => `| ${[r.cell.a, r.cell.c, ...outcome(r)].join(" | ")} |`);
  return ["| NAT of A | NAT of C | path | candidate | time |", "|---|---|---|---|---|", ...rows].join("\n");
}

const BEGIN = "<!-- matrix: written by npm run lab -- --nat-matrix -->";
const END = "<!-- end of matrix -->";

/**
 * Puts the table between its marks in a document. @throws Error when the document has no such
 * marks.
 */
export function writeMatrix(file: string, results: readonly CellResult[]): void {
  const text = readFileSync(file, "utf8");
  const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`${file} has no place for the table: ${BEGIN} and ${END}`);
  writeFileSync(file, `${text.slice(0, from + BEGIN.length)}\n${markdown(results)}\n${text.slice(to)}`);
}
