/**
 * A firewall that drops what the direct interface forwards is concluded from counters: nothing passes that should, or new
 * connections pass via the overlay alone. What a host sends to a port that every policy drops proves nothing.
 */
import { describe, expect, it } from "vitest";
import { ForwardingCheck } from "../../../../plugin/driver/kernel/firewall-check.js";
import type { ForwardingReading, NetForwarding } from "../../../../plugin/driver/ports.js";
import { prefix } from "../../../../plugin/net/address.js";
import { describeReason } from "../../../../plugin/shortcut/reasons.js";

const C = prefix("10.3.0.0/24");
const D = prefix("10.4.0.0/24");
type Net = Partial<NetForwarding> & { readonly seen: number; readonly passed: number };
const net = (n: Net): NetForwarding => ({
  direction: "from",
  remote: C,
  overlay: true,
  seenAfter: n.seen,
  ...n,
});
const flow = (service: string, packets = 1, remote = C) =>
  ({ direction: "to", remote, service, packets }) as const;

function checking() {
  const check = new ForwardingCheck("shortcut0", "10.255.0.1");
  return (now: number, reading: Partial<ForwardingReading>): string[] =>
    check
      .read(now, { nets: [], dropped: [], passed: [], ...reading })
      .map((b) => `${b.remote}: ${describeReason(b.reason)}`);
}

describe("packets of which none passes", () => {
  it("are dropped by the firewall, when they passed via the overlay", () => {
    const read = checking();
    expect(read(0, { nets: [net({ seen: 100, passed: 90 })] })).toEqual([]);
    const [found] = read(500, { nets: [net({ seen: 200, passed: 90 })] });
    expect(found).toContain(
      "10.3.0.0/24: the firewall of 10.255.0.1 drops forwarded packets from shortcut0 (100 of 100)",
    );
  });

  it("are so at the first reading after the flip", () => {
    expect(checking()(0, { nets: [net({ seen: 50, passed: 0 })] })).toHaveLength(1);
  });

  it("are so when packets passed on the direct interface seconds ago", () => {
    const read = checking();
    const of = (seen: number, passed: number) => ({ nets: [net({ seen, passed, overlay: false })] });
    expect(read(0, of(0, 0))).toEqual([]);
    expect(read(500, of(100, 100))).toEqual([]);
    expect(read(1_000, of(200, 100))).toHaveLength(1);
  });

  it("prove nothing where nothing of the kind ever passed: a host sends what every policy drops", () => {
    const read = checking();
    for (let i = 1; i < 20; i++)
      expect(read(i * 500, { nets: [net({ seen: i * 7108, passed: 0, overlay: false })] })).toEqual([]);
  });

  it("prove nothing while other packets of the network pass, nor for another network", () => {
    const read = checking();
    for (let i = 1; i < 20; i++)
      expect(
        read(i * 500, {
          nets: [
            net({ seen: i * 7108, passed: i * 3 }),
            net({ remote: D, seen: i * 7108, passed: 0, overlay: false }),
          ],
        }),
      ).toEqual([]);
  });

  it("are not packets that came between two readings of one look, nor a few", () => {
    const read = checking();
    // 500 packets a second, all passed; each look takes 20 ms between one counter and the next
    expect(read(0, { nets: [net({ seen: 100, passed: 110, seenAfter: 120 })] })).toEqual([]);
    expect(read(10, { nets: [net({ seen: 122, passed: 110, seenAfter: 125 })] })).toEqual([]);
    expect(checking()(0, { nets: [net({ seen: 4, passed: 0 })] })).toEqual([]);
  });

  it("begin again when the counters expired", () => {
    const read = checking();
    read(0, { nets: [net({ seen: 1_000, passed: 1_000 })] });
    expect(read(90_000, { nets: [net({ seen: 30, passed: 30 })] })).toEqual([]);
  });

  it("are told once, and again after what was counted has expired", () => {
    const read = checking();
    let seen = 0;
    const drop = (now: number) => {
      seen += 100;
      return read(now, { nets: [net({ seen, passed: 0 })] }).length;
    };
    expect([0, 500, 19_000, 20_000, 20_500].map(drop)).toEqual([1, 0, 0, 1, 0]);
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

  it("are not, as long as others to the same site pass", () => {
    const passed = [flow("c")];
    expect(checking()(0, { dropped: [flow("a"), flow("b")], passed })).toEqual([]);
    expect(checking()(0, { dropped: [flow("a"), flow("b")], passed: [flow("c", 1, D)] })).toHaveLength(1);
  });

  it("prove it once: again only with another that was dropped", () => {
    const read = checking();
    const dropped = [flow("a"), flow("b")];
    expect(read(0, { dropped })).toHaveLength(1);
    for (const now of [500, 20_000, 25_000]) expect(read(now, { dropped })).toEqual([]);
    expect(read(25_500, { dropped: [flow("b"), flow("c")] })).toHaveLength(1);
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
});
