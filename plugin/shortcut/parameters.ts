export interface DampingParameters {
  /** Milliseconds in which a penalty decays by half. */
  readonly halfLife: number;
  /** Above it a path is suppressed ... */
  readonly suppress: number;
  /** ... until it is below this. */
  readonly reuse: number;
  /** Longest suppression, milliseconds. */
  readonly longest: number;
}

/** `direct.max-round-trip`: the direct path is used up to the hub path's round trip x ratio + margin (milliseconds). */
export interface RoundTripRule {
  readonly ratio: number;
  readonly margin: number;
}

/** Times and bounds of the machine, in milliseconds unless the name says otherwise. Each constant says where it comes from. */
export interface Parameters {
  /** First retransmission of a request; doubles each time, jittered by a quarter. */
  readonly retransmit: number;
  /** Transmissions of one request before it is given up: 0.25 + 0.5 + 1 + 2 + 4 s. */
  readonly attempts: number;
  /** A spoke says hello to its hubs this often; the hub forgets it after three. */
  readonly hubKeepalive: number;
  /** WireGuard persistent keepalive of rendezvous and shortcut peers, seconds: below every NAT's 30 s (RFC 4787 REQ-5 allows 120, home routers do less). */
  readonly peerKeepalive: number;
  /** How long the daemon may take to select an offer before it counts as refused. FRR needs up to 1 s for a new next hop. */
  readonly offerTimeout: number;
  /** Both selected, yet no proven path: WireGuard repeats an initiation every 5 s (REKEY_TIMEOUT), so two tries. */
  readonly connectTimeout: number;
  /** Both selected, yet no pair of candidates answers: longer than any round trip and its repetitions. */
  readonly checkTimeout: number;
  /** Pause after no pair answered: longer than a NAT remembers a packet without an answer (30 s), or the next try would meet what the last has left. */
  readonly checkPause: number;
  /** RFC 5880: interval of probes, and how many may be missing. */
  readonly probeInterval: number;
  readonly probeMultiplier: number;
  /** Interval of probes on a path that has carried no traffic for `quietAfter`. */
  readonly probeIdle: number;
  readonly quietAfter: number;
  /** A flip-back that the FIB does not show after this is overridden by a route of our own. */
  readonly overrideAfter: number;
  /** Peers stay this long after both ends flipped back: packets in flight. */
  readonly drain: number;
  /** How long the other end's `flipped` is waited for: its BGP hold time, after which its daemon went back by itself. */
  readonly remoteHold: number;
  /** A shortcut whose traffic stays below the low threshold this long is torn down. */
  readonly idleTimeout: number;
  /** First pause after a failure; doubles up to the maximum; forgiven after `forgive` of direct operation. */
  readonly backoff: number;
  readonly backoffMax: number;
  readonly forgive: number;
  /** How long the direct path may be, against that by the hub; undefined: as long as it is. */
  readonly maxRoundTrip: RoundTripRule | undefined;
  /** What a path that fails again and again costs. */
  readonly damping: DampingParameters;
  /** A refused or waiting shortcut tells the other end this often that it still wants it; silence of three ends it there. */
  readonly refresh: number;
  /** How long a shortcut may stay when the hub itself, and with it the route underneath, is gone; 0: not at all. */
  readonly outlive: number;
  /** Where the other end says the same, one daemon's selection is enough: traffic goes direct one way only. */
  readonly oneWay: boolean;
  /** Seconds that a resolution holds; a purge ends it earlier. */
  readonly resolutionLifetime: number;
}

export const defaultParameters: Parameters = {
  retransmit: 250,
  attempts: 5,
  hubKeepalive: 10_000,
  peerKeepalive: 20,
  offerTimeout: 5_000,
  connectTimeout: 11_000,
  checkTimeout: 3_000,
  checkPause: 35_000,
  probeInterval: 100,
  probeMultiplier: 3,
  probeIdle: 1_000,
  quietAfter: 3_000,
  overrideAfter: 250,
  drain: 1_000,
  remoteHold: 9_000,
  idleTimeout: 60_000,
  backoff: 2_000,
  backoffMax: 300_000,
  forgive: 60_000,
  maxRoundTrip: undefined,
  damping: { halfLife: 120_000, suppress: 2_000, reuse: 750, longest: 900_000 },
  refresh: 20_000,
  outlive: 300_000,
  oneWay: false,
  resolutionLifetime: 300,
};
