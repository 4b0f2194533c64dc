/**
 * The other end of one shortcut: its identity, its attempt, what it said and what it was told. Each
 * end counts its attempts by its own epochs. A message names both epochs; a message with other
 * epochs is of an attempt that is over. Requests are answered or time out. A farewell is repeated
 * even when its attempt is over.
 */
import { type Address, compareAddresses, type Endpoint, formatEndpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type {
  Candidate,
  Epochs,
  ExchangeBody,
  Id64,
  Mapping,
  ReplyBody,
  RequestBody,
} from "../../wire/control/message.js";
import type { Correspondent, Outcome } from "../control/link.js";
import type { EngineHost, OwnReachability } from "./collaborators.js";

/** The other end, as the exchange described it. */
export interface Peer {
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
  readonly candidates: readonly Candidate[];
  readonly mtu: number;
  readonly pings: boolean;
  readonly mapping: Mapping;
  readonly linkLocal: boolean;
}

/** Endpoints of both ends. */
export interface BothEnds {
  readonly ours: string;
  readonly theirs: string;
}

/** Returns endpoints as text, for comparison. */
export const textOf = (candidates: readonly Endpoint[]): string =>
  candidates.map(formatEndpoint).sort().join(" ");

/** The role in the WireGuard handshake. */
export type Role = "initiator" | "responder";

/** Refuses a message of an attempt that is over: its sender starts again. */
export const stale = (reason: string): ReplyBody => ({ kind: "refused", code: "stale", reason });
/** Refuses for the moment: the other end asks again. */
export const busy = (reason: string): ReplyBody => ({ kind: "refused", code: "busy", reason });

/**
 * Milliseconds for which an opening holds. A NAT forgets an unanswered packet after 30 s
 * (nf_conntrack_udp_timeout).
 */
const OPENING_LASTS = 25_000;

export class Remote {
  peer: Peer | undefined;
  /** Whether its daemon has selected our prefixes; the reason is in its daemon's terms. */
  selected = false;
  reason = "";
  /** Whether its operator accepts one daemon's selection as enough. */
  oneWay = false;
  /** Whether its peer for us is configured. */
  ready = false;
  /** Whether it has fallen back to the overlay. */
  flipped = false;
  /**
   * The time of its last statement whether its daemon selects: while it repeats this, it still
   * wants the shortcut.
   */
  wantedAt: number | undefined;
  /** The statements that it was told: our daemon's selection, and whether we have fallen back. */
  readonly told: { selected: boolean | undefined; flipped: boolean } = {
    selected: undefined,
    flipped: false,
  };
  private readonly current: { readonly mine: number; yours: number };
  private offeredCandidates: readonly Candidate[] = [];
  /** Whether this end said that it has a link-local address. An attempt keeps what was said first. */
  private offeredLinkLocal: boolean | undefined;
  /** The candidates of the other end's exchange; later ones do not change the roles. */
  private theirCandidates: readonly Candidate[] = [];
  /** The candidates and the mapping of this end that the other end was told. */
  private announced: { readonly candidates: string; readonly mapping: string } | undefined;
  /** Whether the other end may not know our candidates yet: its NAT is not open to them. */
  telling = false;
  private readonly requests = new Map<string, Id64>();

  constructor(
    private readonly host: EngineHost,
    private readonly reachability: OwnReachability,
    private readonly owner: Address,
  ) {
    this.current = { mine: host.nextEpoch(), yours: 0 };
  }

  get epochs(): Epochs {
    return { ...this.current };
  }

  /**
   * Returns whether a message of the other end, whose `mine` is our `yours`, belongs to this
   * attempt.
   */
  isCurrent(e: Epochs): boolean {
    return e.mine === this.current.yours && e.yours === this.current.mine;
  }

  /** Returns whether a peer is known and `from` has another boot ID or another key. */
  isAnother(from: Correspondent): boolean {
    return (
      this.peer !== undefined && (from.bootId !== this.peer.bootId || from.publicKey !== this.peer.publicKey)
    );
  }

  /**
   * Returns this end's statement about itself, for the holder of a direct key. An attempt has one list
   * of candidates: the roles follow from what both ends know.
   */
  exchangeBody(theirs: PublicKey): ExchangeBody {
    if (this.offeredCandidates.length === 0) {
      this.offeredCandidates = this.reachability.candidates();
      this.announced = { candidates: textOf(this.offeredCandidates), mapping: this.reachability.mapping };
    }
    const { overlayMtu: mtu, pingsUsable: pings } = this.host;
    const { mapping } = this.reachability;
    this.offeredLinkLocal ??= this.host.linkLocal;
    const linkLocal = this.offeredLinkLocal;
    const { epochs, offeredCandidates: candidates } = this;
    const pskProof = this.host.trust.prove(this.owner, theirs, epochs.mine);
    return { epochs, candidates, mtu, pings, mapping, linkLocal, pskProof };
  }

  /** Takes the other end's statement about itself. */
  adopt(from: Correspondent, b: ExchangeBody): void {
    this.current.yours = b.epochs.mine;
    this.host.bootIds.claim(this.owner, from.bootId, from.publicKey);
    this.theirCandidates = b.candidates;
    this.peer = {
      publicKey: from.publicKey,
      bootId: from.bootId,
      candidates: b.candidates,
      mtu: b.mtu,
      pings: b.pings,
      mapping: b.mapping,
      linkLocal: b.linkLocal,
    };
  }

  /** Whether probes go between link-local addresses: both ends have said that they have one. */
  get linkLocal(): boolean {
    return this.offeredLinkLocal === true && this.peer?.linkLocal === true;
  }

  /** Tells the other end the current candidates of this end, unless it knows them. */
  announceReachability(now: number, known: (now: number) => void): void {
    const candidates = textOf(this.reachability.candidates());
    const { mapping } = this.reachability;
    const told = this.announced;
    if (this.peer === undefined || told === undefined) return;
    if (told.candidates === candidates && told.mapping === mapping) return;
    this.announced = { candidates, mapping };
    if (told.candidates !== candidates) this.telling = true;
    this.send(now, "update", { kind: "update", ...this.update() }, (t) => {
      this.telling = false;
      known(t);
    });
  }

  /** The endpoints with which the attempt began. */
  get began(): BothEnds {
    return { ours: textOf(this.offeredCandidates), theirs: textOf(this.theirCandidates) };
  }

  /** Whether this end's endpoints have changed since the attempt began. */
  get moved(): boolean {
    return (
      this.peer !== undefined && textOf(this.reachability.candidates()) !== textOf(this.offeredCandidates)
    );
  }

  private update(): { epochs: Epochs; candidates: readonly Candidate[]; mapping: Mapping } {
    return {
      epochs: this.epochs,
      candidates: this.reachability.candidates(),
      mapping: this.reachability.mapping,
    };
  }

  learn(candidates: readonly Candidate[], mapping: Mapping): void {
    if (this.peer !== undefined) this.peer = { ...this.peer, candidates, mapping };
  }

  /**
   * Returns whether its NAT still has the opening that it made before it announced its daemon's
   * selection.
   */
  open(now: number): boolean {
    return this.wantedAt !== undefined && now - this.wantedAt < OPENING_LASTS;
  }

  /** Whether at least one end can be reached. */
  get reachable(): boolean {
    return this.offeredCandidates.length > 0 || (this.peer?.candidates.length ?? 0) > 0;
  }

  /**
   * The role of this end. The end with the lower overlay address starts the handshake, unless only
   * one end can be reached: then the other end starts.
   */
  get role(): Role {
    const here = this.offeredCandidates.length > 0;
    const there = this.theirCandidates.length > 0;
    if (here !== there) return there ? "initiator" : "responder";
    return compareAddresses(this.host.self.address, this.owner) < 0 ? "initiator" : "responder";
  }

  /** Sends a request or a notice; a request replaces an unanswered one in the same slot. */
  send(now: number, slot: string, body: RequestBody, done: (now: number, o: Outcome) => void): void {
    const before = this.requests.get(slot);
    if (before !== undefined) this.host.cancel(before);
    const id = this.host.request(now, this.owner, body, (t, o) => {
      if (this.requests.get(slot) === id) this.requests.delete(slot);
      done(t, o);
    });
    this.requests.set(slot, id);
  }

  /**
   * Sends a farewell. It is retransmitted even when this attempt is over. When the other end's
   * attempt is over too, it answers "stale": `answered` is told so.
   */
  farewell(now: number, body: RequestBody, answered: (now: number, over: boolean) => void): void {
    this.host.request(now, this.owner, body, (t, o) => {
      if (o.kind === "reply") answered(t, o.body.kind === "refused");
    });
  }

  cancelRequests(): void {
    for (const id of this.requests.values()) this.host.cancel(id);
    this.requests.clear();
  }
}
