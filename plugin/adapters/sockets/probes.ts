/**
 * {@link ProbePort}: a thread (node:worker_threads) that sends and receives probes, see probe-worker.ts. This end tells it what to probe, keeps its
 * lease alive, and starts another one when it ends or does not answer: the new thread is told what was heard last, so a
 * path that works does not look new to the other end.
 */
import { Worker } from "node:worker_threads";
import { PortError, type ProbePort, type ProbeSocket } from "../../driver/ports.js";
import type { Endpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { ProbeSession } from "../../shortcut/probe/stream.js";
import type { Probe } from "../../wire/probe.js";
import type { FromProbes, PlainError, ProbeBind, ToProbes } from "./probe-messages.js";

/** Milliseconds between signs of life, and how many may go unanswered. */
const RENEW = 500;
const UNANSWERED = 6;
/** The same while the thread is still being loaded: on a slow or busy router that takes many seconds, and starting it again would not help. */
const UNANSWERED_LOADING = 120;
/** A thread that ends this soon is not started again at once. */
const YOUNG = 1_000;

interface Probed {
  readonly to: Endpoint;
  readonly session: ProbeSession;
  heard: { readonly at: number; readonly probe: Probe } | undefined;
}

const portError = (e: PlainError): PortError => new PortError(e.place, e.problem, e.remedy, e.code);

class ProbeThread implements ProbeSocket {
  private readonly probed = new Map<PublicKey, Probed>();
  private worker: Worker | undefined;
  /** The one that was ended because it did not answer: that is said already. */
  private hung: Worker | undefined;
  private closing = false;
  private unanswered = 0;
  private ready = false;
  private startedAt = 0;
  private readonly renewal: NodeJS.Timeout;
  private retry: NodeJS.Timeout | undefined;

  constructor(
    private readonly script: URL,
    private readonly bind: ProbeBind,
    private readonly onEvent: Parameters<ProbePort["open"]>[1],
    private readonly onError: (error: PortError) => void,
  ) {
    this.renewal = setInterval(() => this.renew(), RENEW);
  }

  /** Resolves when the thread has its socket. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.startedAt = Date.now();
      this.unanswered = 0;
      this.ready = false;
      // the main thread's options, such as --import, are not the thread's
      const worker = new Worker(this.script, { workerData: this.bind, execArgv: [], name: "probes" });
      this.worker = worker;
      let open = false;
      let reason = "";
      worker.on("message", (m: FromProbes) => {
        if (this.closing) return;
        switch (m.kind) {
          case "open":
            open = true;
            this.ready = true;
            this.unanswered = 0;
            resolve();
            return;
          case "failed":
            reject(portError(m.error));
            return;
          case "events":
            for (const e of m.events) {
              const p = e.kind === "heard" ? this.probed.get(e.key) : undefined;
              if (p !== undefined && e.kind === "heard") p.heard = { at: e.at, probe: e.probe };
              this.onEvent(e);
            }
            return;
          case "problem":
            this.onError(portError(m.error));
            return;
          case "renewed":
            this.unanswered = 0;
            return;
        }
      });
      worker.on("error", (e) => {
        reason = e.message;
      });
      worker.on("exit", (code) => {
        if (this.worker === worker) this.worker = undefined;
        const place = "thread of probes";
        reject(new PortError(place, reason || `ended with ${code} before it had its socket`));
        if (!open || this.closing) return;
        if (worker !== this.hung)
          this.onError(new PortError(place, reason || `ended with ${code}`, "it is started again"));
        this.restart();
      });
      // what the thread must know before it has its socket waits in its queue
      for (const [key, p] of this.probed) this.post({ kind: "set", key, ...p });
    });
  }

  private restart(): void {
    const pause = Date.now() - this.startedAt < YOUNG ? YOUNG : 0;
    this.retry = setTimeout(() => {
      if (this.closing) return;
      this.start().catch((e: unknown) => {
        if (this.closing) return;
        if (e instanceof PortError) this.onError(e);
        this.restart();
      });
    }, pause);
  }

  private post(message: ToProbes): void {
    this.worker?.postMessage(message);
  }

  private renew(): void {
    if (this.worker === undefined) return;
    if (++this.unanswered > (this.ready ? UNANSWERED : UNANSWERED_LOADING)) {
      if (this.hung !== this.worker)
        this.onError(new PortError("thread of probes", "does not answer", "it is started again"));
      this.hung = this.worker;
      void this.worker.terminate();
      return;
    }
    this.post({ kind: "renew" });
  }

  set(key: PublicKey, to: Endpoint, session: ProbeSession): void {
    const before = this.probed.get(key);
    const same = before !== undefined && before.session.epochs.mine === session.epochs.mine;
    this.probed.set(key, { to, session, heard: same ? before.heard : undefined });
    this.post({ kind: "set", key, to, session, heard: undefined });
  }

  unset(key: PublicKey): void {
    this.probed.delete(key);
    this.post({ kind: "unset", key });
  }

  async close(): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    clearInterval(this.renewal);
    clearTimeout(this.retry);
    const { worker } = this;
    if (worker === undefined) return;
    const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    this.post({ kind: "close" });
    const late = setTimeout(() => void worker.terminate(), 1_000);
    await ended;
    clearTimeout(late);
  }
}

/** @param script the built probe-worker.js: a thread cannot be started from a source that is not JavaScript */
export const probeAdapter = (script: URL): ProbePort => ({
  async open(bind, onEvent, onError): Promise<ProbeSocket> {
    const thread = new ProbeThread(script, bind, onEvent, onError);
    try {
      await thread.start();
    } catch (e) {
      await thread.close();
      throw e;
    }
    return thread;
  },
});
