/**
 * A NAT in the simulation with one inside host: how it maps and filters (RFC 4787), and a
 * peculiarity of Linux. There an unexpected packet makes its own connection, and the inside's
 * packets to that source get another port afterwards.
 */
import type { Endpoint } from "../../plugin/net/address.js";

export interface NatKind {
  readonly mapping: "endpoint-independent" | "address-and-port-dependent";
  readonly filter: "none" | "address" | "port";
  /**
   * Whether an INPUT drop is missing: then an unsolicited packet changes the port towards its
   * source.
   */
  readonly open: boolean;
}

const REMEMBERS = 30_000;

export class Nat {
  /** Sources of packets from outside that no inside packet had asked for. */
  readonly unsolicited: Endpoint[] = [];
  private readonly contacted = new Map<string, number>();
  private readonly spoiled = new Map<string, number>();
  private readonly ports = new Map<string, number>();
  private next = 40_000;

  constructor(
    readonly kind: NatKind,
    readonly publicEndpoint: Endpoint,
  ) {}

  /** Sends a packet out. Returns the source endpoint that the outside sees. */
  out(now: number, to: Endpoint): Endpoint {
    const key = `${to.address} ${to.port}`;
    this.contacted.set(key, now);
    this.contacted.set(to.address, now);
    const spoiled = (this.spoiled.get(key) ?? Number.NEGATIVE_INFINITY) > now - REMEMBERS;
    if (this.kind.mapping === "endpoint-independent" && !spoiled) return this.publicEndpoint;
    let port = this.ports.get(key);
    if (port === undefined) {
      port = this.next++;
      this.ports.set(key, port);
    }
    return { ...this.publicEndpoint, port };
  }

  /** Takes a packet at a public port. Returns whether it is let in. */
  in(now: number, from: Endpoint, port: number): boolean {
    const key = `${from.address} ${from.port}`;
    const recent = (k: string) => (this.contacted.get(k) ?? Number.NEGATIVE_INFINITY) > now - REMEMBERS;
    const mapped =
      this.kind.mapping === "endpoint-independent"
        ? port === this.publicEndpoint.port || this.ports.get(key) === port
        : this.ports.get(key) === port;
    const { filter } = this.kind;
    const passes =
      mapped && (filter === "none" || (filter === "address" ? recent(from.address) : recent(key)));
    if (!passes) {
      this.unsolicited.push(from);
      if (this.kind.open) this.spoiled.set(key, now);
    }
    return passes;
  }
}
