/**
 * {@link RulesetPort}: reads nftables as `nft -j` describes it. Sets are listed without their elements, which may be a hundred thousand
 * addresses; sets of interface names are read each for itself, since rules name interfaces by them.
 */
import { PortError, type RulesetPort } from "../../driver/ports.js";
import { nftOutput } from "./nft.js";

const PLACE = "nftables ruleset";

const isRecord = (v: unknown): v is Readonly<Record<string, unknown>> => typeof v === "object" && v !== null;

async function list(args: readonly string[]): Promise<readonly unknown[] | undefined> {
  const text = await nftOutput(["-j", ...args]);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new PortError(PLACE, "nft -j printed something that is not JSON");
  }
  const rows = isRecord(value) ? value["nftables"] : undefined;
  if (!Array.isArray(rows)) throw new PortError(PLACE, "nft -j printed no list of objects");
  return rows as readonly unknown[];
}

/** Family, table and name of a set of interface names. */
function namesInterfaces(row: unknown): readonly string[] | undefined {
  if (!isRecord(row) || !isRecord(row["set"])) return undefined;
  const { family, name, table, type } = row["set"];
  if (type !== "ifname" && type !== "iface_index") return undefined;
  return [family, table, name].map(String);
}

/** {@link RulesetPort} of the network namespace that the process is in; `own` are the names of our own tables. */
export const rulesetAdapter = (own: readonly string[]): RulesetPort => ({
  async read() {
    const rows = await list(["-t", "list", "ruleset"]);
    if (rows === undefined) throw new PortError(PLACE, "nft cannot list it", "apt-get install nftables");
    const out: unknown[] = [];
    for (const row of rows) {
      if (isRecord(row) && Object.values(row).some((v) => isRecord(v) && own.includes(String(v["table"]))))
        continue;
      const set = namesInterfaces(row);
      out.push(...((set && (await list(["list", "set", ...set]))) ?? [row]));
    }
    return out;
  },
});
