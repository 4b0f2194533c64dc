/** {@link HostPort}: sysctls that decide whether the direct interface can be used. */
import type { HostPort } from "../../driver/ports.js";
import { ipv6Disabled, readSysctl } from "./links.js";

export const hostAdapter = (): HostPort => ({
  reversePathFilter(dev) {
    const read = (name: string) => readSysctl(4, name, "rp_filter");
    const own = read(dev);
    return own === undefined ? undefined : Math.max(Number(own), Number(read("all") ?? "0"));
  },
  ipv6Enabled: (dev) => !ipv6Disabled(dev),
});
