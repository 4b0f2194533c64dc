/**
 * The pre-shared keys of pairs: read from a directory when shortcutd starts, and again whenever a file
 * changes. An outside tool may renew them. A file that is half written, or gone, does not take away the key
 * that was read from it before: the pair keeps it, and the problem is said. A file that was never right makes
 * the owner unusable: there is no shortcut without the key that should protect it.
 */
import type { Address } from "../../net/address.js";
import { keyBytes, type PrivateKey } from "../../net/key.js";
import type { Preshared } from "../../shortcut/control/trust.js";
import type { PresharedFile, PresharedKeyPort } from "../ports.js";

export interface PresharedHost {
  hmac(key: Uint8Array, data: Uint8Array): Uint8Array;
  /** These owners have another key than before. */
  changed(owners: readonly Address[]): void;
  problem(place: string, text: string): void;
}

interface Entry {
  readonly key: PrivateKey | undefined;
  /** Of the last reading; empty for none. */
  readonly problem: string;
}

const GONE = "its file is gone";

export class PresharedKeys {
  private readonly owners = new Map<Address, Entry>();

  constructor(
    private readonly port: PresharedKeyPort | undefined,
    /** Whether there is no shortcut with an owner that has no key. */
    private readonly required: boolean,
    private readonly host: PresharedHost,
  ) {}

  /** Whether there is anything to be watched. */
  get watched(): boolean {
    return this.port !== undefined;
  }

  async read(): Promise<void> {
    if (this.port !== undefined) this.take(await this.port.read());
  }

  private take(files: ReadonlyMap<Address, PresharedFile>): void {
    const changed: Address[] = [];
    for (const owner of new Set([...this.owners.keys(), ...files.keys()])) {
      const before = this.owners.get(owner) ?? { key: undefined, problem: "" };
      const file = files.get(owner) ?? { ok: false, problem: GONE };
      const now: Entry = file.ok
        ? { key: file.key, problem: "" }
        : { key: before.key, problem: file.problem };
      this.owners.set(owner, now);
      if (now.key !== before.key) changed.push(owner);
      if (now.problem !== "" && now.problem !== before.problem) this.tell(owner, now);
    }
    if (changed.length > 0) this.host.changed(changed);
  }

  private tell(owner: Address, { key, problem }: Entry): void {
    const rest =
      key === undefined ? "there is no shortcut with it" : "the key that was read before stays in use";
    this.host.problem(`pre-shared key of ${owner}`, `${problem}; ${rest}`);
  }

  /** The key that the peer of an owner has to have. */
  key(owner: Address): PrivateKey | undefined {
    return this.owners.get(owner)?.key;
  }

  /** The same for the engine, which never sees the key itself. */
  of(owner: Address): Preshared {
    const entry = this.owners.get(owner);
    if (entry?.key !== undefined) {
      const key = keyBytes(entry.key);
      return { kind: "key", hmac: (data) => this.host.hmac(key, data) };
    }
    if (entry !== undefined) return { kind: "unusable", problem: entry.problem };
    return this.required
      ? { kind: "unusable", problem: `psk.required is set, and psk.directory has no file ${owner}` }
      : { kind: "none" };
  }
}
