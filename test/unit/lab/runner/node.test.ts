/** Shows the script that PID 1 of a node runs, and the wait that labs use instead of sleeping. */
import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { initScript } from "../../../../lab/runner/node.js";
import { until } from "../../../../lab/runner/wait.js";

const node = {
  name: "r1",
  binds: [{ source: "/tmp/it's", target: "/run/x y", readOnly: true }],
  exec: [],
  env: {},
  sysctls: { "net.ipv4.conf.all.rp_filter": "2" },
};

describe("initScript", () => {
  it("is valid shell, with names and paths quoted", () => {
    const script = initScript(node, false);
    execFileSync("bash", ["-n", "-c", script]);
    expect(script).toContain("mount --bind '/tmp/it'\\''s' '/run/x y'");
    expect(script).toContain("echo '2' > '/proc/sys/net/ipv4/conf/all/rp_filter'");
  });

  it("reads the runner's pipe, and only a kept node does not", () => {
    expect(initScript(node, false)).toMatch(/exec cat >\/dev\/null$/);
    expect(initScript(node, true)).toMatch(/exec sleep infinity/);
  });
});

describe("until", () => {
  it("returns what the probe found", async () => {
    let n = 0;
    expect(await until("three", 1_000, () => (++n < 3 ? undefined : n), 1)).toBe(3);
  });

  it("says what did not happen, and the last error", async () => {
    const never = until("the moon is green", 5, () => Promise.reject(new Error("it is grey")), 1);
    await expect(never).rejects.toThrow("not within 0.005 s: the moon is green: it is grey");
  });
});
