/** Messages between the main thread and the thread of probes; structured clones of plain values. */
import type { PortError } from "../../driver/ports.js";
import type { Address, Endpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { ProbeEvent } from "../../shortcut/probe/relay.js";
import type { ProbeSession } from "../../shortcut/probe/stream.js";
import type { Probe } from "../../wire/probe.js";

/** `workerData`. */
export interface ProbeBind {
  readonly dev: string;
  readonly addresses: readonly Address[];
  readonly port: number;
}

export type ToProbes =
  | {
      readonly kind: "set";
      readonly key: PublicKey;
      readonly to: Endpoint;
      readonly session: ProbeSession;
      /** The last probe that arrived, when a thread takes over from one that died. */
      readonly heard: { readonly at: number; readonly probe: Probe } | undefined;
    }
  | { readonly kind: "unset"; readonly key: PublicKey }
  /** The main thread is alive. */
  | { readonly kind: "renew" }
  | { readonly kind: "close" };

export type PlainError = Pick<PortError, "place" | "problem" | "remedy" | "code">;

export type FromProbes =
  | { readonly kind: "open" }
  | { readonly kind: "failed"; readonly error: PlainError }
  | { readonly kind: "events"; readonly events: readonly ProbeEvent[] }
  | { readonly kind: "problem"; readonly error: PlainError }
  | { readonly kind: "renewed" };
