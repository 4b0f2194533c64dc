/** The phases of a run: what was sent, lost and which way it went between two moments. */

import type { Lab } from "../../runner/lab.js";
import { fullBuffers } from "../../site/buffer-drops.js";
import { type Counters, readCounters } from "../../site/counters.js";
import type { DirectionCount, Flows } from "../../traffic/flows.js";
import { directionBetween, type PhaseReport, seconds } from "./report.js";

export class Phases {
  readonly list: PhaseReport[] = [];
  /** Set once there is traffic. */
  flows: Flows | undefined;
  #open: { name: string; counters: Counters; flows: readonly DirectionCount[]; full: number } | undefined;

  constructor(private readonly lab: Lab) {}

  /** Packets sent so far, both ways. */
  get sent(): number {
    return (this.flows?.read() ?? []).reduce((n, d) => n + d.sent, 0);
  }

  /** Ends the phase before and begins another. */
  async enter(name: string): Promise<void> {
    const counters = await readCounters(this.lab);
    const flows = this.flows?.read() ?? [];
    this.#close(counters, flows);
    this.#open = { name, counters, flows, full: fullBuffers(this.lab) };
  }

  /** Ends the traffic, and the last phase with it: what is not there by now is lost. */
  async end(): Promise<void> {
    if (this.flows === undefined) return;
    const flows = await this.flows.stop();
    this.#close(await readCounters(this.lab), flows);
  }

  #close(counters: Counters, flows: readonly DirectionCount[]): void {
    const p = this.#open;
    if (p === undefined) return;
    this.list.push({
      name: p.name,
      seconds: seconds(counters.at - p.counters.at),
      directions: flows.flatMap((after, i) => {
        const before = p.flows[i];
        return before === undefined ? [] : [directionBetween(before, after)];
      }),
      byHub: counters.hubPackets - p.counters.hubPackets,
      direct: counters.there + counters.back - p.counters.there - p.counters.back,
      // an interface that goes takes its counters along
      fullBuffers: Math.max(0, fullBuffers(this.lab) - p.full),
    });
    this.#open = undefined;
  }
}
