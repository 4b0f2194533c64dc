/**
 * One try at a shortcut: the other end as this try knows it, what the hub attests for the owner, and
 * the direct path. When the try is over the whole object is dropped.
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
    /** Which end began. */
    public origin: "local" | "remote",
  ) {
    this.remote = new Remote(spoke.engine, spoke.reachability, owner);
    this.path = new DirectPath(spoke, owner);
  }
}
