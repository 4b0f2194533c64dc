/**
 * A BGP session over TCP: the thin driver of `bgp/session.ts`. It dials from a given loopback address to the daemon,
 * moves bytes, keeps one timer, and hands on what the session reports. Socket errors become inputs of the session and
 * exceptions are reported, so nothing is thrown into the event loop.
 */
import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";
import type { Agreement } from "../../bgp/negotiation.js";
import { type BgpProblem, describeProblem } from "../../bgp/problem.js";
import type { Route, RouteChange } from "../../bgp/rib.js";
import type { Session, SessionInput, SessionOutput } from "../../bgp/session.js";
import type { Address, Family, Prefix } from "../../net/address.js";
import { unreachable } from "../../net/result.js";
import { tcpSocket } from "../linux/tcp-socket.js";

export type BgpState =
  | { readonly kind: "established"; readonly agreement: Agreement }
  | { readonly kind: "down"; readonly reason: string };

export interface BgpConnectionOptions {
  readonly session: Session;
  /** Where it dials from, such as 127.0.0.2: the daemon tells its neighbours apart by it. */
  readonly localAddress: Address;
  readonly remoteAddress: Address;
  readonly remotePort: number;
  /** The VRF in which it dials (SO_BINDTODEVICE); undefined: none. */
  readonly vrf?: string | undefined;
  /** Reads the password of the session (RFC 2385) before each connection; undefined: it has no password. May throw. */
  readonly password?: (() => string | undefined) | undefined;
  readonly onState?: (state: BgpState) => void;
  /** Changes of Adj-RIB-In, in order. `down` replaces the withdrawal of everything. */
  readonly onRoutes?: (changes: readonly RouteChange[]) => void;
  /** The daemon has sent all it has for the family. */
  readonly onEndOfRib?: (family: Family) => void;
  readonly onProblem?: (problem: BgpProblem, text: string) => void;
  /** An exception of one of the callbacks above, or of the session (which then loses its connection): a bug. */
  readonly onInternalError?: (error: unknown) => void;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** How long `stop` waits for the Cease to leave before it cuts the connection. */
const STOP_TIMEOUT_MS = 1_000;

export class BgpConnection {
  private socket: Socket | undefined;
  /** Sockets that were told to close and have not yet; `stop` waits for them. */
  private readonly closing = new Set<Socket>();
  private timer: NodeJS.Timeout | undefined;
  private pumping = false;
  private pumpScheduled = false;
  private readonly now: () => number;

  constructor(private readonly options: BgpConnectionOptions) {
    this.now = options.now ?? (() => performance.now());
  }

  get session(): Session {
    return this.options.session;
  }

  start(): void {
    this.input({ kind: "start" });
  }

  /** Sends Cease with the reason, closes, and resolves when the connection is gone. Routes stay in Adj-RIB-Out. */
  async stop(reason = "shortcutd stops"): Promise<void> {
    this.input({ kind: "stop", reason });
    await Promise.all(
      [...this.closing].map(
        (socket) =>
          new Promise<void>((resolve) => {
            const cut = setTimeout(() => socket.destroy(), STOP_TIMEOUT_MS);
            socket.once("close", () => {
              clearTimeout(cut);
              resolve();
            });
          }),
      ),
    );
  }

  /** Cuts the connection without a NOTIFICATION, as when the process dies, and stays stopped. */
  abort(): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.destroy();
    this.input({ kind: "stop", reason: "aborted" });
  }

  /** Sends together, in as few messages as possible, all that one turn of the event loop announces and withdraws. */
  announce(routes: Iterable<Route>): void {
    this.session.announce(routes);
    this.schedulePump();
  }

  withdraw(prefixes: Iterable<Prefix>): void {
    this.session.withdraw(prefixes);
    this.schedulePump();
  }

  /** See {@link Session.requestRefresh}. */
  requestRefresh(family: Family): boolean {
    const asked = this.session.requestRefresh(family);
    this.schedulePump();
    return asked;
  }

  private schedulePump(): void {
    if (this.pumpScheduled) return;
    this.pumpScheduled = true;
    queueMicrotask(() => {
      this.pumpScheduled = false;
      this.pump();
    });
  }

  private input(input: SessionInput): void {
    this.guard(() => this.session.handleInput(this.now(), input));
    this.pump();
  }

  private guard(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.socket?.destroy();
      this.call(() => {
        throw error;
      });
    }
  }

  private pump(): void {
    // A callback may announce: its changes are picked up by the loop that called it.
    if (this.pumping) return;
    this.pumping = true;
    this.guard(() => {
      for (let out = this.session.pollOutput(); out !== undefined; out = this.session.pollOutput())
        this.perform(out);
    });
    this.pumping = false;
    this.setTimer();
  }

  private perform(out: SessionOutput): void {
    const { options } = this;
    switch (out.kind) {
      case "connect":
        this.dial();
        return;
      case "send":
        this.socket?.write(out.bytes);
        return;
      case "close":
        this.close();
        return;
      case "established":
        this.call(() => options.onState?.({ kind: "established", agreement: out.agreement }));
        return;
      case "down":
        this.call(() => options.onState?.({ kind: "down", reason: out.reason }));
        return;
      case "routes":
        this.call(() => options.onRoutes?.(out.changes));
        return;
      case "end-of-rib":
        this.call(() => options.onEndOfRib?.(out.family));
        return;
      case "problem":
        this.call(() => options.onProblem?.(out.problem, describeProblem(out.problem)));
        return;
      default:
        unreachable(out);
    }
  }

  private call(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      try {
        this.options.onInternalError?.(error);
      } catch {
        // There is nobody left to tell.
      }
    }
  }

  private dial(): void {
    const { localAddress, remoteAddress, remotePort, vrf } = this.options;
    let socket: Socket;
    try {
      socket = tcpSocket(remoteAddress, { vrf, password: this.options.password?.() });
    } catch (e) {
      const problem = e instanceof Error ? e.message : String(e);
      queueMicrotask(() => this.input({ kind: "closed", reason: problem }));
      return;
    }
    socket.connect({ host: remoteAddress, port: remotePort, localAddress, noDelay: true });
    this.socket = socket;
    let reason = "closed by the daemon";
    const current = (): boolean => this.socket === socket;
    socket.on("connect", () => {
      if (current()) this.input({ kind: "connected" });
    });
    socket.on("data", (bytes) => {
      if (current()) this.input({ kind: "bytes", bytes });
    });
    socket.on("error", (error: Error & { code?: string }) => {
      const remedy =
        vrf !== undefined && error.code === "EADDRNOTAVAIL"
          ? `: \`ip address add ${localAddress}/32 dev ${vrf}\``
          : "";
      reason = `${error.message} (from ${localAddress})${remedy}`;
    });
    socket.on("close", () => {
      this.closing.delete(socket);
      if (!current()) return;
      this.socket = undefined;
      this.input({ kind: "closed", reason });
    });
  }

  private close(): void {
    const { socket } = this;
    if (socket === undefined) return;
    this.socket = undefined;
    if (socket.connecting) {
      socket.destroy();
      return;
    }
    this.closing.add(socket);
    // The other end may never close its half; what was written has a moment to leave.
    socket.end();
    socket.setTimeout(STOP_TIMEOUT_MS, () => socket.destroy());
  }

  private setTimer(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const at = this.session.pollTimeout();
    if (at === undefined) return;
    this.timer = setTimeout(
      () => {
        // After a stall of the event loop timers run before sockets are read: let what has arrived be read first, or the
        // hold timer expires with the neighbour's KEEPALIVE in the buffer.
        setImmediate(() => {
          this.input({ kind: "timeout" });
        });
      },
      Math.max(0, Math.ceil(at - this.now())),
    );
  }
}
