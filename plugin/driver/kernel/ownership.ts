/**
 * Decides whether an interface that has the name of the direct interface is ours; pure. Two things prove it: the mark that
 * every interface of ours gets when it is made (its ifalias, `ip -d link show`), or our private key on it. The mark names the overlay, so
 * that two instances on one router keep their hands off each other's interfaces.
 */
import type { InterfaceNames } from "../../net/interface-names.js";
import type { PublicKey } from "../../net/key.js";
import { ConfigMismatch } from "../overlay.js";
import type { Owner } from "../ports.js";

const MARK = "shortcutd:";

/** The ifalias of the direct interface that belongs to this overlay. */
export const markOf = (overlay: InterfaceNames): string => `${MARK}${overlay.id}`;

/** An interface as the kernel has it. */
export interface FoundInterface {
  /** `wireguard`, `tun`, `veth`; undefined for hardware. */
  readonly kind: string | undefined;
  readonly alias: string | undefined;
  /** Undefined when no WireGuard answers for it. */
  readonly device: { readonly publicKey: PublicKey | undefined } | undefined;
}

/** Undefined when it is ours; else what it is, as the rest of a sentence that begins with its name. */
export function foreignness(owner: Owner, found: FoundInterface): string | undefined {
  const { kind, alias, device } = found;
  if (device === undefined) return `is ${kind ?? "hardware"} and no WireGuard answers for it`;
  if (alias === owner.mark) return undefined;
  if (alias?.startsWith(MARK) === true)
    return `belongs to the shortcutd of overlay ${alias.slice(MARK.length)} (its ifalias is ${alias})`;
  if (device.publicKey === owner.publicKey) return undefined;
  return `is a WireGuard interface that shortcutd did not make: it has neither the key of \`direct.key\` nor the ifalias ${owner.mark}`;
}

/** An interface that is not ours has the name of the direct interface: a restart alone does not help. */
export class ForeignInterface extends ConfigMismatch {
  constructor(name: string, problem: string) {
    super(
      `interface ${name}`,
      problem,
      "choose another name for `direct.interface`, or, if nothing uses it, delete the interface that has this one",
      "EEXIST",
    );
  }
}
