/**
 * A firewall that drops what the direct interface forwards is concluded from counters: nothing passes that should, or new
 * connections pass via the overlay alone. It is concluded for one owner. What a host sends to a port that every policy drops
 * proves nothing.
 */
import { describe, expect, it } from "vitest";
import { type DirectSites, ForwardingCheck } from "../../../../plugin/driver/kernel/firewall-check.js";
import type { ForwardingReading, HostForwarding } from "../../../../plugin/driver/ports.js";
import { type Address, address, prefix } from "../../../../plugin/net/address.js";
import { PrefixMap } from "../../../../plugin/net/lpm.js";
import { describeReason } from "../../../../plugin/shortcut/reasons.js";

const OWNER_C = address("10.255.0.3");
const OWNER_D = address("10.255.0.4");
const C = address("10.3.0.10");
const C2 = address("10.3.0.11");
/** Of another prefix of the same owner, and of an owner whose site is beside C's in one /24. */
const C_OTHER = address("10.33.0.1");
const D = address("10.3.0.200");
const sites: DirectSites = new PrefixMap<Address>();
sites.set(prefix("10.3.0.0/25"), OWNER_C);
sites.set(prefix("10.33.0.0/24"), OWNER_C);
sites.set(prefix("10.3.0.128/25"), OWNER_D);

type Host = Partial<HostForwarding> & { readonly seen: number; readonly passed: number };
const host = (n: Host): HostForwarding => ({ direction: "from", remote: C, seenAfter: n.seen, ...n });
const flow = (service: string, packets = 1, remote = C) =>
  ({ direction: "to", remote, service, packets }) as const;

function checking() {
  const check = new ForwardingCheck("shortcut0", "10.255.0.1");
  const read = (now: number, reading: Partial<ForwardingReading>): string[] =>
    check
      .read(now, { hosts: [], dropped: [], passed: [], ...reading }, sites)
      .map((b) => `${b.owner}: ${describeReason(b.reason)}`);
  return Object.assign(read, { check });
}

describe("packets that should pass, of which none passes", () => {
  it("are dropped by the firewall", () => {
    const read = checking();
    expect(read(0, { hosts: [host({ seen: 100, passed: 100 })] })).toEqual([]);
    const [found] = read(500, { hosts: [host({ seen: 200, passed: 100 })] });
    expect(found).toContain(
      "10.255.0.3: the firewall of 10.255.0.1 drops forwarded packets from shortcut0 (100 of 100)",
    );
  });

  it("are so at the first reading after the flip", () => {
    expect(checking()(0, { hosts: [host({ seen: 50, passed: 0 })] })).toHaveLength(1);
  });

  it("prove nothing while others to the same prefix pass", () => {
    const read = checking();
    for (let i = 1; i < 20; i++)
      expect(
        read(i * 500, {
          hosts: [host({ seen: i * 7108, passed: 0 }), host({ remote: C2, seen: i * 3, passed: i * 3 })],
        }),
      ).toEqual([]);
  });

  it("prove something for one owner: neither for its neighbour in the same network, nor for what is not direct", () => {
    const read = checking();
    const passing = host({ seen: 10, passed: 10 });
    const found = read(0, {
      hosts: [
        passing,
        host({ remote: D, seen: 50, passed: 0 }),
        host({ remote: address("192.0.2.1"), seen: 50, passed: 0 }),
      ],
    });
    expect(found.map((f) => f.split(":")[0])).toEqual([OWNER_D]);
  });

  it("prove something for one prefix of an owner while another one passes", () => {
    const read = checking();
    const hosts = [host({ seen: 10, passed: 10 }), host({ remote: C_OTHER, seen: 50, passed: 0 })];
    expect(read(0, { hosts })).toHaveLength(1);
  });

  it("are not packets that came between two readings of one look, nor a few", () => {
    const read = checking();
    // 500 packets a second, all passed; each look takes 20 ms between one counter and the next
    expect(read(0, { hosts: [host({ seen: 100, passed: 110, seenAfter: 120 })] })).toEqual([]);
    expect(read(10, { hosts: [host({ seen: 122, passed: 110, seenAfter: 125 })] })).toEqual([]);
    expect(checking()(0, { hosts: [host({ seen: 4, passed: 0 })] })).toEqual([]);
  });

  it("are not counters of two tables, when the table was made again while they were read", () => {
    const read = checking();
    expect(read(0, { hosts: [host({ seen: 3_054, passed: 0, seenAfter: 12 })] })).toEqual([]);
    expect(read(500, { hosts: [host({ seen: 900, passed: 888, seenAfter: 910 })] })).toEqual([]);
  });

  it("begin again when the counters expired", () => {
    const read = checking();
    read(0, { hosts: [host({ seen: 1_000, passed: 1_000 })] });
    expect(read(90_000, { hosts: [host({ seen: 30, passed: 30 })] })).toEqual([]);
  });

  it("are told once, and again after what was counted has expired", () => {
    const read = checking();
    let seen = 0;
    const drop = (now: number) => {
      seen += 100;
      return read(now, { hosts: [host({ seen, passed: 0 })] }).length;
    };
    expect([0, 500, 19_000, 20_000, 20_500].map(drop)).toEqual([1, 0, 0, 1, 0]);
  });
});

describe("a rule that lets a number of packets a second pass", () => {
  /** A host sends 1,000 packets a second, of which one passes. Returns when a verdict was given; seconds. */
  const flood = (duration: number, changed?: (read: ReturnType<typeof checking>) => void): number[] => {
    const read = checking();
    const verdicts: number[] = [];
    let [seen, passed] = [1, 1];
    for (let t = 0; t < duration * 1_000; t += 500) {
      seen += 500;
      if (t % 1_000 === 0) passed++;
      if (read(t, { hosts: [host({ seen, passed })] }).length > 0) {
        verdicts.push(t / 1_000);
        changed?.(read);
      }
    }
    return verdicts;
  };

  it("ends a shortcut once, and not again when packets passed afterwards", () => {
    expect(flood(600)).toHaveLength(1);
  });

  it("is judged as at first, when rules of others have changed", () => {
    expect(flood(600, (read) => read.check.rulesChanged()).length).toBeGreaterThan(10);
  });

  it("does not hide a firewall that drops everything, after a longer silence", () => {
    const read = checking();
    const at = (now: number, seen: number, passed: number) =>
      read(now, { hosts: [host({ seen, passed })] }).length;
    expect([at(0, 100, 0), at(30_000, 200, 100)]).toEqual([1, 0]);
    expect([at(31_000, 300, 100), at(32_999, 400, 100), at(33_000, 500, 100)]).toEqual([0, 0, 1]);
  });
});

describe("new connections", () => {
  it("are dropped when several pass via the overlay alone", () => {
    expect(checking()(0, { dropped: [flow("a")] })).toEqual([]);
    const [found] = checking()(0, { dropped: [flow("a"), flow("b")] });
    expect(found).toContain(
      "drops new connections to shortcut0 (2 of them passed via the overlay afterwards)",
    );
    expect(checking()(0, { dropped: [flow("a", 2)] })).toHaveLength(1);
  });

  it("are not, as long as others to the same prefix pass", () => {
    const passed = [flow("c", 1, C2)];
    expect(checking()(0, { dropped: [flow("a"), flow("b")], passed })).toEqual([]);
    for (const elsewhere of [D, C_OTHER])
      expect(
        checking()(0, { dropped: [flow("a"), flow("b")], passed: [flow("c", 1, elsewhere)] }),
      ).toHaveLength(1);
  });

  it("prove it as soon as nothing passes any more that passed before", () => {
    const read = checking();
    const dropped = [flow("a"), flow("b")];
    expect(read(0, { dropped, passed: [flow("c")] })).toEqual([]);
    expect(read(5_000, { dropped })).toHaveLength(1);
  });

  it("to one service are, when none to that service passes", () => {
    const dropped = [flow("a", 3)];
    expect(checking()(0, { dropped, passed: [flow("c")] })).toHaveLength(1);
    expect(checking()(0, { dropped, passed: [flow("c"), flow("a")] })).toEqual([]);
  });

  it("are known once: a verdict is not repeated about the same, nor about what came before the path was direct", () => {
    const read = checking();
    const at = (now: number, packets: number, direct = sites) =>
      read.check.read(now, { hosts: [], dropped: [flow("a", packets)], passed: [] }, direct).length;
    expect([at(0, 3), at(500, 3), at(20_500, 3), at(21_000, 4)]).toEqual([1, 0, 0, 0]);
    // two more are as many as at first
    expect(at(21_500, 5)).toBe(1);
    expect(at(22_000, 50, new PrefixMap())).toBe(0);
    expect([at(60_000, 50), at(60_500, 51), at(61_000, 52)]).toEqual([0, 0, 1]);
    // counters that expired begin again
    expect([at(90_000, 1), at(90_500, 2), at(91_000, 3)]).toEqual([0, 0, 1]);
  });

  it("of one owner say nothing of another's", () => {
    const found = checking()(0, { dropped: [flow("a", 5, D)] });
    expect(found.map((f) => f.split(":")[0])).toEqual([OWNER_D]);
  });
});
