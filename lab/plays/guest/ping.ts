/**
 * A ping that runs until it is stopped: the cheapest traffic both ways that there is, counted by
 * its replies.
 */
import type { Node, NodeProcess } from "../../runner/node.js";
import { until } from "../../runner/wait.js";

export class Ping {
  #replies = 0;
  /** The highest sequence number that was answered. */
  #highest = 0;
  private readonly process: NodeProcess;

  private constructor(node: Node, to: string, everySeconds: number, bytes: number) {
    this.process = node.spawn(["ping", "-n", "-i", String(everySeconds), "-s", String(bytes), to], {
      onLine: (line) => {
        const seq = /icmp_seq=(\d+) ttl=/.exec(line)?.[1];
        if (seq === undefined) return;
        this.#replies++;
        this.#highest = Math.max(this.#highest, Number(seq));
      },
    });
  }

  /** Resolves when the first reply is there. */
  static async start(node: Node, to: string, everySeconds = 0.05, bytes = 700): Promise<Ping> {
    const ping = new Ping(node, to, everySeconds, bytes);
    await until(`${to} answers`, 20_000, () => ping.#replies > 0);
    return ping;
  }

  /**
   * Waits for this many more replies. @throws Error when they take more than five times as long as
   * they should, or one in ten is missing.
   */
  async more(replies: number): Promise<string> {
    const [from, first, time] = [this.#replies, this.#highest, performance.now()];
    await until(`${replies} replies more`, 5_000 + replies * 250, () => this.#replies >= from + replies);
    const sent = this.#highest - first;
    const lost = sent - (this.#replies - from);
    if (lost > sent / 10) throw new Error(`${lost} of ${sent} were not answered`);
    return `${sent} sent in ${((performance.now() - time) / 1000).toFixed(1)} s, ${lost} not answered`;
  }

  async stop(): Promise<string> {
    await this.process.kill("SIGINT");
    await this.process.exited;
    return `${this.#highest - this.#replies} of ${this.#highest} not answered in all`;
  }
}
