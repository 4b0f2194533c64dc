/** Runs `nft`: what is written of nftables goes by its language, in one transaction each. */
import { spawn } from "node:child_process";
import { ConfigMismatch } from "../../driver/overlay.js";
import { PortError } from "../../driver/ports.js";

const SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** @throws PortError for a name that could not stand in a script as it is. */
export function checkNames(table: string, devices: readonly string[]): void {
  const place = `nftables table ${JSON.stringify(table)}`;
  if (!/^[A-Za-z][A-Za-z0-9_]{0,63}$/.test(table)) throw new PortError(place, "is not a table name");
  for (const dev of devices)
    if (!/^[A-Za-z0-9_.@:-]{1,15}$/.test(dev))
      throw new PortError(place, `${JSON.stringify(dev)} is not an interface name`);
}

/** IFNAMSIZ (linux/if.h) less the zero byte at the end. */
const LONGEST_NAME = 15;

/**
 * Returns what an interface's name is compared with, for rules that are to cover interfaces also before they exist:
 * `"wg0"`, `{ "wg0", "wg1" }`, `"wg-*"`. A rule is written once for each; no packet matches two of them. A wildcard has a
 * rule of its own, since older versions of nft take none as an element of a set.
 * @param names names, and patterns that end in an asterisk
 */
export function deviceMatches(names: readonly string[]): readonly string[] {
  // nft takes no wildcard behind a name of full length: it stands for that name alone
  const patterns = names.map((n) => (n.length > LONGEST_NAME ? n.slice(0, LONGEST_NAME) : n));
  const covered = (name: string, by: string): boolean =>
    by !== name && by.endsWith("*") && name.startsWith(by.slice(0, -1));
  const all = [...new Set(patterns)].filter((name) => !patterns.some((by) => covered(name, by)));
  const exact = all.filter((name) => !name.endsWith("*")).map((name) => `"${name}"`);
  const set = exact.length > 1 ? [`{ ${exact.join(", ")} }`] : exact;
  return [...set, ...all.filter((name) => name.endsWith("*")).map((name) => `"${name}"`)];
}

/** Feeds `nft -f -`. Rejects with a PortError that quotes nft's first complaint. */
async function nft(
  script: string,
  place: string,
  remedy = "shortcutd needs CAP_NET_ADMIN and a kernel with nf_tables",
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = spawn("nft", ["-f", "-"], {
      stdio: ["pipe", "ignore", "pipe"],
      env: { PATH: SEARCH_PATH },
    });
    let complaint = "";
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (d: string) => {
      complaint += d;
    });
    child.once("error", (e: Error & { code?: string }) => {
      reject(new PortError(place, `cannot run nft: ${e.message}`, "apt-get install nftables", e.code));
    });
    child.stdin.on("error", () => undefined);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else
        reject(
          new PortError(place, `nft: ${complaint.trim().split("\n")[0] ?? `exit code ${code}`}`, remedy),
        );
    });
    child.stdin.end(script);
  });
}

/**
 * Lists one table as `nft` writes it, without counters and without the elements of sets; undefined when
 * there is no such table.
 */
const nftList = (family: "inet" | "netdev", table: string): Promise<string | undefined> =>
  nftOutput(["-s", "-t", "list", "table", family, table]);

/** A ruleset whose description is longer is not read. */
const MOST_OUTPUT = 64 << 20;

/** Returns what `nft` prints; undefined when it fails. */
export async function nftOutput(args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn("nft", args, { stdio: ["ignore", "pipe", "ignore"], env: { PATH: SEARCH_PATH } });
    let text = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (d: string) => {
      text += d;
      if (text.length > MOST_OUTPUT) child.kill();
    });
    child.once("error", () => resolve(undefined));
    child.once("close", (code) => resolve(code === 0 ? text : undefined));
  });
}

/** A line of every table of ours: a table of the same name without it is somebody else's. */
export const OWN_COMMENT = 'comment "made by shortcutd"';

/** One table of ours, and what it looked like after it was made. */
export class OwnTable {
  private made: string | undefined;
  private busy = false;

  constructor(
    private readonly family: "inet" | "netdev",
    private readonly name: string,
    /** A chain that proves a table ours which was made before tables had comments. */
    private readonly chain: string,
  ) {}

  /** Returns whether there is one. @throws ConfigMismatch when the one that is there is somebody else's. */
  private async stands(): Promise<boolean> {
    const text = await nftList(this.family, this.name);
    if (text === undefined) return false;
    if (text.includes(`\t${OWN_COMMENT}\n`) || text.includes(`\tchain ${this.chain} {\n`)) return true;
    throw new ConfigMismatch(
      this.place,
      `is not shortcutd's: it has no \`${OWN_COMMENT}\``,
      "rename that table, or delete it if nothing uses it",
      "EEXIST",
    );
  }

  /** Makes or replaces it by `script`. */
  async make(script: string, remedy?: string): Promise<void> {
    this.busy = true;
    try {
      await this.stands();
      await nft(script, this.place, remedy);
      this.made = await nftList(this.family, this.name);
    } finally {
      this.busy = false;
    }
  }

  /** Returns whether it is as it was made; also before it was made, and while it is being made. */
  async intact(): Promise<boolean> {
    const { made } = this;
    if (made === undefined || this.busy) return true;
    const now = await nftList(this.family, this.name);
    return this.busy || this.made !== made || now === made;
  }

  async remove(): Promise<void> {
    this.made = undefined;
    if (!(await this.stands())) return;
    const table = `${this.family} ${this.name}`;
    await nft(`add table ${table}\ndelete table ${table}\n`, this.place);
  }

  get place(): string {
    return `nftables table ${this.family} ${this.name}`;
  }
}
