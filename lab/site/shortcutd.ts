/**
 * shortcutd on one router of the lab: started as the router's operator would start it, asked as
 * `shortcutctl` asks it (the same socket, the same requests), and stopped.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { askStatus } from "../../plugin/adapters/process/status-socket.js";
import type { JournalEntry } from "../../plugin/driver/runtime/journal.js";
import type { Milestone, Stage } from "../../plugin/shortcut/events.js";
import type { Response, StatusReport } from "../../plugin/status/report.js";
import type { Node, NodeProcess } from "../runner/node.js";

const SOCKET = "/run/shortcutd/control.sock";
const CONFIG = "/etc/shortcutd/shortcutd.yaml";
const POLL_MS = 25;

export interface Programs {
  /** Built `main.js` and `ctl.js`. */
  readonly shortcutd: string;
  readonly shortcutctl: string;
  /** Built `traffic.js`. */
  readonly traffic: string;
  /** Options of the node that runs shortcutd. */
  readonly nodeOptions?: readonly string[];
  /** A command that runs that node, such as `setpriv`. */
  readonly runner?: readonly string[];
}

/** The programs as built into a directory. */
export const programsIn = (dir: string): Programs => ({
  shortcutd: join(dir, "plugin/main.js"),
  shortcutctl: join(dir, "plugin/ctl.js"),
  traffic: join(dir, "lab/traffic/main.js"),
});

export class RunningShortcutd {
  #timeline: readonly JournalEntry[] = [];
  #exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  #following = true;
  readonly #followed: Promise<void>;
  readonly #process: NodeProcess;

  constructor(
    private readonly node: Node,
    readonly router: string,
    private readonly programs: Programs,
    private readonly log: string,
    /** How often its timeline is read, milliseconds. */
    private readonly pollEvery = POLL_MS,
  ) {
    // A session of its own: it outlives the runner's terminal when the lab is kept.
    const daemon = [
      ...(programs.runner ?? []),
      process.execPath,
      ...(programs.nodeOptions ?? []),
      programs.shortcutd,
    ];
    this.#process = node.spawn(["setsid", ...daemon, "run", "-c", CONFIG], { stdoutFile: log });
    void this.#process.exited.then((e) => {
      this.#exit = e;
    });
    this.#followed = this.#follow();
  }

  async #ask(request: { readonly command: "status" } | { readonly command: "timeline" }): Promise<Response> {
    // The server is of the same build.
    return (await askStatus(this.node.path(SOCKET), { ...request, since: 0 })) as Response;
  }

  async #follow(): Promise<void> {
    while (this.#following) {
      if (existsSync(this.node.path(SOCKET))) {
        const r = await this.#ask({ command: "timeline" }).catch(() => undefined);
        if (r?.ok === true && "timeline" in r) this.#timeline = r.timeline;
      }
      await delay(this.pollEvery);
    }
  }

  /** The first entry of that kind at or after `since`, milliseconds since the epoch. */
  event(kind: Stage | Milestone, since: number): JournalEntry | undefined {
    return this.#timeline.find((e) => e.event === kind && e.at >= since);
  }

  /** How many there are of that kind at or after `since`. */
  count(kind: Stage | Milestone, since: number): number {
    return this.#timeline.filter((e) => e.event === kind && e.at >= since).length;
  }

  /** Undefined as long as it does not answer. */
  async status(): Promise<StatusReport | undefined> {
    const r = await this.#ask({ command: "status" }).catch(() => undefined);
    return r?.ok === true && "status" in r ? r.status : undefined;
  }

  /** Runs `shortcutctl` as an operator would. */
  async ctl(...words: string[]): Promise<string> {
    const r = await this.node.exec([process.execPath, this.programs.shortcutctl, ...words]);
    return (r.stdout + r.stderr).trim();
  }

  /** Everything that it has logged. */
  logged(): string {
    return existsSync(this.log) ? readFileSync(this.log, "utf8").trim() : "";
  }

  lastWords(): string {
    const lines = this.logged().split("\n");
    return lines.slice(-4).join("\n  ");
  }

  signal(signal: NodeJS.Signals): Promise<void> {
    return this.#process.kill(signal);
  }

  /** How it ended; undefined as long as it runs. */
  get exit(): { code: number | null; signal: NodeJS.Signals | null } | undefined {
    return this.#exit;
  }

  /** Stops asking; the process is left alone. */
  async leave(): Promise<void> {
    this.#following = false;
    await this.#followed;
  }
}
