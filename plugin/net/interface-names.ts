/**
 * Names of network interfaces, as an operator gives them: `wg0`, or a pattern that ends in an asterisk,
 * `wg-*`. A pattern stands for interfaces that may come and go.
 */

/** Whether this is a name that the kernel allows (IFNAMSIZ, linux/if.h), or a pattern for such names. */
export const isInterfacePattern = (text: string): boolean => /^[^\s/*]{1,15}\*?$/.test(text);

/** FNV-1a of 64 bits, in hexadecimal: tells apart what nobody chooses to be alike. */
function fnv1a(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text))
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, "0");
}

export class InterfaceNames {
  private readonly names: ReadonlySet<string>;
  private readonly beginnings: readonly string[];

  /** @param patterns names and patterns, at least one */
  constructor(readonly patterns: readonly string[]) {
    this.names = new Set(patterns.filter((p) => !p.endsWith("*")));
    this.beginnings = patterns.filter((p) => p.endsWith("*")).map((p) => p.slice(0, -1));
  }

  has(name: string): boolean {
    return this.names.has(name) || this.beginnings.some((b) => name.startsWith(b));
  }

  /** Whether other interfaces than the named ones may belong to it. */
  get open(): boolean {
    return this.beginnings.length > 0;
  }

  /**
   * A short name for all of them, of letters that a file name and an interface's alias may have: a single
   * interface's own name; else the first of them, and a hash that no interface's name is long enough for.
   */
  get id(): string {
    const [first = "", ...others] = [...this.patterns].sort();
    if (others.length === 0 && !first.endsWith("*")) return first;
    return `${first.replace(/\*$/, "")}_${fnv1a([first, ...others].join(" "))}`;
  }

  /** `wg-hub1, wg-*`, for people. */
  toString(): string {
    return this.patterns.join(", ");
  }
}
