export interface DampingParameters {
  /** Milliseconds in which a penalty decays by half. */
  readonly halfLife: number;
  /** Penalty above which a path is suppressed ... */
  readonly suppress: number;
  /** ... until it is below this. */
  readonly reuse: number;
  /** Longest suppression, in milliseconds. */
  readonly longest: number;
}

/**
 * The rule `direct.max-round-trip`: the direct path is used up to the hub path's round trip x ratio
 * + margin (milliseconds).
 */
export interface RoundTripRule {
  readonly ratio: number;
  readonly margin: number;
}

/**
 * Times and bounds of a shortcut, in milliseconds unless the name says otherwise. Each constant
 * says where it comes from.
 */
export interface Parameters {
  /** First retransmission of a request; doubles each time, jittered by a quarter. */
  readonly retransmit: number;
  /** Transmissions of one request before it is given up: 0.25 + 0.5 + 1 + 2 + 4 s. */
  readonly attempts: number;
  /**
   * Interval of a spoke's keepalives to its hubs; the hub removes the spoke after three missed
   * ones.
   */
  readonly hubKeepalive: number;
  /**
   * WireGuard persistent keepalive of rendezvous and shortcut peers: below every NAT's 30
   * s (RFC 4787 REQ-5 allows 120, home routers do less).
   */
  readonly peerKeepalive: number;
  /**
   * Time in which the daemon may select an offer before the offer counts as refused. FRR needs up
   * to 1 s for a new next hop.
   */
  readonly offerTimeout: number;
  /**
   * Time from both selections to a proven path. WireGuard repeats an initiation every 5 s
   * (REKEY_TIMEOUT), so this is two tries.
   */
  readonly connectTimeout: number;
  /**
   * Time from both selections to an answer of any pair of candidates: longer than any round trip
   * and its repetitions.
   */
  readonly checkTimeout: number;
  /**
   * Pause after no pair answered: longer than a NAT remembers a packet without an answer (30 s).
   * Otherwise the next attempt would meet the mappings that the last one left.
   */
  readonly checkPause: number;
  /** Interval of probes (RFC 5880), and the number that may be missing. */
  readonly probeInterval: number;
  readonly probeMultiplier: number;
  /** Interval of probes on a path that has carried no traffic for `quietAfter`. */
  readonly probeIdle: number;
  readonly quietAfter: number;
  /** Time after which an override replaces a flip back that the FIB does not show. */
  readonly overrideAfter: number;
  /** Time for which peers stay after both ends flipped back: packets in flight. */
  readonly drain: number;
  /**
   * Wait for the other end's `flipped`: its BGP hold time, after which its daemon has dropped the
   * offers by itself.
   */
  readonly remoteHold: number;
  /** Time after which a shortcut is torn down when its traffic stays below the low threshold. */
  readonly idleTimeout: number;
  /**
   * First pause after a failure. It doubles up to the maximum, and is cleared after `forgive` of
   * direct operation.
   */
  readonly backoff: number;
  readonly backoffMax: number;
  readonly forgive: number;
  /** Limit of the direct path's round trip, relative to the hub path; undefined: no limit. */
  readonly maxRoundTrip: RoundTripRule | undefined;
  /** The cost of a path that fails repeatedly. */
  readonly damping: DampingParameters;
  /**
   * Interval at which a refused or waiting shortcut tells the other end that it still wants it.
   * After three missing messages the other end ends it.
   */
  readonly refresh: number;
  /**
   * Time for which a shortcut may stay when the hub itself, and with it the route underneath, is
   * gone; 0: not at all.
   */
  readonly outlive: number;
  /**
   * Whether one daemon's selection is enough, where the other end says the same: traffic goes
   * direct in one direction only.
   */
  readonly oneWay: boolean;
  /** For how long a resolution is valid; a purge ends it earlier. */
  readonly resolutionLifetime: number;
}

export const defaultParameters: Parameters = {
  retransmit: 250,
  attempts: 5,
  hubKeepalive: 10_000,
  peerKeepalive: 20_000,
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
  resolutionLifetime: 300_000,
};
