/** All fuzz targets: every decoder of input from outside, and the machines that take what was decoded. */

import type { Target } from "./target.js";
import { bgpTargets } from "./targets/bgp.js";
import { connectionTargets } from "./targets/connection.js";
import { datagramTargets } from "./targets/datagrams.js";
import { engineTargets } from "./targets/engine.js";
import { netlinkTargets } from "./targets/netlink.js";
import { textTargets } from "./targets/text.js";
import { wireguardGoTargets } from "./targets/wireguard-go.js";

export const targets: readonly Target[] = [
  ...netlinkTargets,
  ...wireguardGoTargets,
  ...bgpTargets,
  ...datagramTargets,
  ...textTargets,
  ...connectionTargets,
  ...engineTargets,
];
