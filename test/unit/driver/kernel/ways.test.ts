/** Shows by which path the direct interface's packets leave, from the kernel's answers. */
import { expect, it } from "vitest";
import { Ways } from "../../../../plugin/driver/kernel/ways.js";
import { PortError } from "../../../../plugin/driver/ports.js";
import { address } from "../../../../plugin/net/address.js";
import { DIRECT, fibOf, OVERLAY, route } from "../support.js";

const to = { address: address("192.0.2.130"), port: 51821 };

function ways(answer: () => readonly string[], vrf?: string) {
  const asked: unknown[] = [];
  const problems: string[] = [];
  const routes = {
    ways: (...question: unknown[]) => {
      asked.push(question);
      return answer();
    },
  };
  const config = { mark: 51820, port: 51821, vrf };
  const fib = fibOf(route("192.0.2.0/24", OVERLAY));
  return { asked, problems, w: new Ways(routes, fib, config, (_, text) => void problems.push(text)) };
}

it.each([
  [["eth0"], "other"],
  [[OVERLAY], "overlay"],
  [["eth0", OVERLAY], "overlay"],
  [[DIRECT], "direct"],
  [[], "none"],
] as const)("leaves by %s: %s", (devices, path) => {
  const { w, asked } = ways(() => devices);
  expect(w.to(to)).toBe(path);
  expect(asked).toEqual([[to, { mark: 51820, port: 51821, vrf: undefined }]]);
});

it("follows a route into the VRF by the VRF's table", () => {
  expect(ways(() => ["red"], "red").w.to(to)).toBe("overlay");
  expect(ways(() => ["red"], "blue").w.to(to)).toBe("other");
});

it("counts as the underlay when the kernel cannot be asked, and says so", () => {
  const { w, problems } = ways(() => {
    throw new PortError("netlink", "EPERM");
  });
  expect(w.to(to)).toBe("other");
  expect(problems).toHaveLength(1);
});
