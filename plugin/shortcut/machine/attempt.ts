/**
 * One attempt at a shortcut: the other end as this attempt knows it, the hub's attestation for the
 * owner, and the direct path. When the attempt is over, the whole object is dropped.
 */
import type { Address } from "../../net/address.js";
import type { Attested } from "../spoke/resolutions.js";
import type { Collaborators } from "./collaborators.js";
import { DirectPath } from "./direct-path.js";
import { Remote } from "./remote.js";

export class Attempt {
  attested: Attested | undefined;
  readonly remote: Remote;
  readonly path: DirectPath;

  constructor(
    spoke: Collaborators,
    owner: Address,
    /** The end that began. */
    public origin: "local" | "remote",
  ) {
    this.remote = new Remote(spoke.engine, spoke.reachability, owner);
    this.path = new DirectPath(spoke, owner);
  }
}
