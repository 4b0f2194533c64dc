/**
 * The peers of a router's direct interface, read repeatedly from WireGuard itself: through
 * wireguard-go's socket in the node's file system, or by `wg show` where the kernel does WireGuard.
 * Every sample is kept, in short.
 */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type PublicKey, parsePublicKey } from "../../plugin/net/key.js";
import { decodeGetReply, UAPI_GET, uapiReplyComplete } from "../../plugin/wire/uapi.js";
import type { Node } from "../runner/node.js";
import { DIRECT, type RouterName } from "./triangle.js";

export interface PeerReading {
  readonly key: PublicKey;
  readonly endpoint: string | undefined;
  /** Milliseconds since the epoch; 0 before the first handshake. */
  readonly handshake: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/**
 * One reading. It was true at some moment from `asked` to `answered`, milliseconds since
 * the epoch.
 */
export interface PeerSample {
  readonly router: RouterName;
  readonly asked: number;
  readonly answered: number;
  readonly keys: readonly PublicKey[];
}

const EVERY_MS = 20;

/** `wg show IFACE dump`: one line for the interface, one per peer. */
export function parseDump(text: string): PeerReading[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [key, , endpoint, , handshake, rx, tx] = line.split("\t");
      const parsed = parsePublicKey(key ?? "");
      if (parsed === undefined) return [];
      return [
        {
          key: parsed,
          endpoint: endpoint === "(none)" ? undefined : endpoint,
          handshake: Number(handshake) * 1000,
          rxBytes: Number(rx),
          txBytes: Number(tx),
        },
      ];
    });
}

function readUapi(path: string): Promise<PeerReading[] | undefined> {
  return new Promise((done) => {
    let reply = "";
    const socket = connect(path);
    const end = (value: PeerReading[] | undefined): void => {
      socket.destroy();
      done(value);
    };
    socket.setEncoding("utf8");
    socket.setTimeout(2_000, () => end(undefined));
    socket.on("connect", () => socket.write(UAPI_GET));
    socket.on("error", () => end(undefined));
    socket.on("close", () => end(undefined));
    socket.on("data", (text: string) => {
      reply += text;
      if (!uapiReplyComplete(reply)) return;
      const device = decodeGetReply(reply);
      if (!device.ok) return end(undefined);
      end(
        device.value.peers.map((p) => ({
          key: p.publicKey,
          endpoint: p.endpoint === undefined ? undefined : `${p.endpoint.address}:${p.endpoint.port}`,
          handshake: p.lastHandshake,
          rxBytes: p.rxBytes,
          txBytes: p.txBytes,
        })),
      );
    });
  });
}

/** When a peer came, and what was first read of it. */
export interface PeerEpisode {
  readonly key: PublicKey;
  readonly from: number;
  /** When it was first not there any more. */
  until: number | undefined;
  /** First time at which data, more than a handshake, had passed both ways. */
  carried: { readonly at: number; readonly rxBytes: number; readonly txBytes: number } | undefined;
  latest: PeerReading;
}

/** A handshake (148 + 92 bytes) and keepalives do not reach this; one full-size probe does. */
const CARRIED_BYTES = 1280;

/** Reads one router's direct interface until it is stopped. */
export class PeerSampler {
  readonly samples: PeerSample[] = [];
  readonly episodes: PeerEpisode[] = [];
  /** The latest reading; undefined while there is no direct interface. */
  latest: readonly PeerReading[] | undefined;
  #running = true;
  readonly #ended: Promise<void>;

  constructor(
    private readonly node: Node,
    readonly router: RouterName,
  ) {
    this.#ended = this.#run();
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const asked = Date.now();
      // A reading that fails is the same as no interface, which has no peers; it is not counted as
      // a sample.
      const peers = await this.#read().catch(() => undefined);
      this.take(asked, Date.now(), peers);
      await delay(EVERY_MS);
    }
  }

  async #read(): Promise<PeerReading[] | undefined> {
    const socket = this.node.path(`/run/wireguard/${DIRECT}.sock`);
    if (existsSync(socket)) return await readUapi(socket);
    if (!existsSync(this.node.path(`/sys/class/net/${DIRECT}`))) return undefined;
    const dump = await this.node.exec(["wg", "show", DIRECT, "dump"]);
    return dump.status === 0 ? parseDump(dump.stdout) : undefined;
  }

  /** Takes one reading into the account. */
  take(asked: number, answered: number, peers: readonly PeerReading[] | undefined): void {
    this.latest = peers;
    if (peers !== undefined)
      this.samples.push({ router: this.router, asked, answered, keys: peers.map((p) => p.key) });
    for (const e of this.episodes)
      if (e.until === undefined && peers?.some((p) => p.key === e.key) !== true) e.until = answered;
    for (const p of peers ?? []) {
      let episode = this.episodes.find((e) => e.key === p.key && e.until === undefined);
      if (episode === undefined) {
        episode = { key: p.key, from: answered, until: undefined, carried: undefined, latest: p };
        this.episodes.push(episode);
      }
      episode.latest = p;
      if (episode.carried === undefined && p.rxBytes >= CARRIED_BYTES && p.txBytes >= CARRIED_BYTES)
        episode.carried = { at: answered, rxBytes: p.rxBytes, txBytes: p.txBytes };
    }
  }

  /** The time that a peer has been there, from the first one that began after `since`. */
  episode(key: PublicKey, since: number): PeerEpisode | undefined {
    return this.episodes.find((e) => e.key === key && e.from >= since);
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#ended;
  }
}
