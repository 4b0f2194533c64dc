/**
 * The other end of one shortcut: who it is, which attempt of it this attempt belongs to, what it said and what it was told. Each end
 * counts its attempts by epochs of its own; a message names both, and one that names others is of an attempt that is
 * over. Requests are answered or time out; a farewell is sent again even when its attempt is over.
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

/** What the exchange told of the other end. */
export interface Peer {
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
  readonly candidates: readonly Candidate[];
  readonly mtu: number;
  readonly pings: boolean;
  readonly mapping: Mapping;
}

/** Endpoints of both ends. */
export interface BothEnds {
  readonly ours: string;
  readonly theirs: string;
}

/** Endpoints, to be compared. */
export const textOf = (candidates: readonly Endpoint[]): string =>
  candidates.map(formatEndpoint).sort().join(" ");

/** Who starts the WireGuard handshake. */
export type Role = "initiator" | "responder";

/** To a message of an attempt that is over: who sent it starts anew. */
export const stale = (reason: string): ReplyBody => ({ kind: "refused", code: "stale", reason });
/** Not now: the other end asks again. */
export const busy = (reason: string): ReplyBody => ({ kind: "refused", code: "busy", reason });

/** A NAT forgets what was not answered after 30 s (nf_conntrack_udp_timeout). */
const OPENING_LASTS = 25_000;

export class Remote {
  peer: Peer | undefined;
  /** Its daemon has selected our prefixes; why not, in its daemon's terms. */
  selected = false;
  reason = "";
  /** Its operator lets one daemon's selection be enough. */
  oneWay = false;
  /** Its peer for us is configured. */
  ready = false;
  /** It has gone back to the overlay. */
  flipped = false;
  /** When it last said whether its daemon selects: while it repeats itself, it still wants the shortcut. */
  wantedAt: number | undefined;
  /** What it was told of our daemon's selection, and whether it was told that we have gone back. */
  readonly told: { selected: boolean | undefined; flipped: boolean } = {
    selected: undefined,
    flipped: false,
  };
  private readonly current: { readonly mine: number; yours: number };
  private offeredCandidates: readonly Candidate[] = [];
  /** Of the other end's exchange: what it said later changes no role. */
  private theirCandidates: readonly Candidate[] = [];
  /** Where the other end was told that this end is reached, and through what. */
  private announced: { readonly candidates: string; readonly mapping: string } | undefined;
  /** It may not yet know where this end is reached: its NAT is not open to what comes from there. */
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

  /** Whether a message of the other end, whose `mine` is our `yours`, belongs to this attempt. */
  isCurrent(e: Epochs): boolean {
    return e.mine === this.current.yours && e.yours === this.current.mine;
  }

  /** Whether a peer is known and `from` is another boot of it, or has another key. */
  isAnother(from: Correspondent): boolean {
    return (
      this.peer !== undefined && (from.bootId !== this.peer.bootId || from.publicKey !== this.peer.publicKey)
    );
  }

  /** What this end says of itself. One list of candidates an attempt: the roles follow from what both ends know. */
  exchangeBody(): ExchangeBody {
    if (this.offeredCandidates.length === 0) {
      this.offeredCandidates = this.reachability.candidates();
      this.announced = { candidates: textOf(this.offeredCandidates), mapping: this.reachability.mapping };
    }
    const { overlayMtu: mtu, pingsUsable: pings } = this.host;
    const { mapping } = this.reachability;
    return { epochs: this.epochs, candidates: this.offeredCandidates, mtu, pings, mapping };
  }

  /** Takes what the other end says of itself. */
  adopt(from: Correspondent, b: ExchangeBody): void {
    this.current.yours = b.epochs.mine;
    this.theirCandidates = b.candidates;
    this.peer = {
      publicKey: from.publicKey,
      bootId: from.bootId,
      candidates: b.candidates,
      mtu: b.mtu,
      pings: b.pings,
      mapping: b.mapping,
    };
  }

  /** Tells the other end where this end is reached now, unless it knows. */
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

  /** With which endpoints the attempt began. */
  get began(): BothEnds {
    return { ours: textOf(this.offeredCandidates), theirs: textOf(this.theirCandidates) };
  }

  /** Whether this end is reached elsewhere than when the attempt began. */
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

  /** Whether its NAT still has the opening that it made before it said that its daemon selects. */
  open(now: number): boolean {
    return this.wantedAt !== undefined && now - this.wantedAt < OPENING_LASTS;
  }

  /** Whether at least one end can be reached. */
  get reachable(): boolean {
    return this.offeredCandidates.length > 0 || (this.peer?.candidates.length ?? 0) > 0;
  }

  /** The lower overlay address starts the handshake, unless only one end can be reached: then the other starts. */
  get role(): Role {
    const here = this.offeredCandidates.length > 0;
    const there = this.theirCandidates.length > 0;
    if (here !== there) return there ? "initiator" : "responder";
    return compareAddresses(this.host.self.address, this.owner) < 0 ? "initiator" : "responder";
  }

  /** Asks, or tells; a request takes the place of an unanswered one in the same slot. */
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
   * A farewell: retransmitted even when this attempt is over, and answered by "stale" when the other
   * end's is: then `over` is called.
   */
  farewell(now: number, body: RequestBody, over: (now: number) => void): void {
    this.host.request(now, this.owner, body, (t, o) => {
      if (o.kind === "reply" && o.body.kind === "refused") over(t);
    });
  }

  cancelRequests(): void {
    for (const id of this.requests.values()) this.host.cancel(id);
    this.requests.clear();
  }
}
