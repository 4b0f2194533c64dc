/**
 * The versions of BIRD and FRR that the triangle is run with: which Debian has them, and what each
 * is expected to be.
 */
import type { Daemon } from "../../site/triangle.js";

export interface Version {
  /** As the command line and the table have it. */
  readonly name: string;
  readonly daemon: Daemon;
  /** Debian suite and package. */
  readonly suite: string;
  readonly package: string;
  /** How the daemon's version begins, as it tells it. */
  readonly expected: string;
}

const bird = (expected: string, suite: string, pkg: string): Version => ({
  name: `bird-${expected}`,
  daemon: "bird",
  suite,
  package: pkg,
  expected,
});
const frr = (expected: string, suite: string): Version => ({
  name: `frr-${expected}`,
  daemon: "frr",
  suite,
  package: "frr",
  expected,
});

export const VERSIONS: readonly Version[] = [
  bird("2.0.12", "bookworm", "bird2"),
  bird("2.17", "trixie", "bird2"),
  bird("3.1", "trixie", "bird3"),
  bird("2.20", "sid", "bird2"),
  bird("3.4", "sid", "bird3"),
  frr("8.4", "bookworm"),
  frr("10.3", "trixie"),
  frr("10.7", "sid"),
];

/** @throws Error that names the versions there are. */
export function version(name: string): Version {
  const found = VERSIONS.find((v) => v.name === name);
  if (found === undefined)
    throw new Error(`no version ${name}; there are ${VERSIONS.map((v) => v.name).join(", ")}`);
  return found;
}
