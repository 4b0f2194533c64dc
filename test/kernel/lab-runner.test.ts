/**
 * The runner itself: nodes live and die with it, commands run where they should, and nothing is
 * left behind.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keptLabs, type Lab, readKept, startLab, stopKept, until } from "../../lab/runner/lab.js";
import { startTime } from "../../lab/runner/node.js";
import { build } from "./lab-build.js";

const topology = (extra = ""): string => `
name: small
topology:
  defaults: { kind: linux }
  nodes:
    r1:
      env: { COLOUR: green }
      sysctls: { net.ipv4.ip_forward: 1 }
      binds: [".:/run/here:ro"]
      exec: ["ip address add 10.0.0.1/24 dev eth1"${extra}]
    r2:
      exec: ["ip address add 10.0.0.2/24 dev eth1"]
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
      mtu: 1400
`;

describe("the lab runner", () => {
  const dir = mkdtempSync(join(tmpdir(), "lab-runner-"));
  const file = join(dir, "small.clab.yml");
  let lab: Lab;
  beforeAll(async () => {
    writeFileSync(file, topology());
    lab = await startLab(file);
  });
  afterAll(async () => {
    await lab?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  it("connects nodes, and sets names, sysctls, binds and environment", async () => {
    const r1 = lab.node("r1");
    expect((await r1.exec(["ping", "-c", "1", "-W", "2", "10.0.0.2"])).status).toBe(0);
    expect(await r1.must(["hostname"])).toBe("r1\n");
    expect(await r1.must(["cat", "/proc/sys/net/ipv4/ip_forward", "/sys/class/net/eth1/mtu"])).toBe(
      "1\n1400\n",
    );
    expect(await r1.must(["sh", "-c", "echo $COLOUR"])).toBe("green\n");
    expect(r1.readFile("/run/here/small.clab.yml")).toContain("name: small");
    expect((await r1.exec(["touch", "/run/here/x"])).stderr).toContain("Read-only");
    expect(() => lab.node("r9")).toThrow("no node r9; nodes are r1, r2");
  });

  it("keeps /run, /etc and /var of a node to itself", async () => {
    const mark = `mark-${process.pid}`;
    await lab.node("r1").must(["sh", "-c", `for d in run etc var; do echo x > /$d/${mark}; done`]);
    for (const d of ["run", "etc", "var"]) {
      expect(lab.node("r1").readFile(`/${d}/${mark}`)).toBe("x\n");
      expect(existsSync(`/${d}/${mark}`)).toBe(false);
      expect(existsSync(lab.node("r2").path(`/${d}/${mark}`))).toBe(false);
    }
    expect(existsSync(lab.node("r1").path("/etc/passwd"))).toBe(true);
  });

  it("gives status, output and errors of commands, and ends one that takes too long", async () => {
    const r1 = lab.node("r1");
    const said = await r1.exec(["sh", "-c", "cat; echo no >&2; exit 3"], { input: "in" });
    expect(said).toEqual({ status: 3, signal: null, stdout: "in", stderr: "no\n" });
    await expect(r1.must(["sh", "-c", "echo why >&2; exit 3"])).rejects.toThrow(
      "r1: sh -c echo why >&2; exit 3: status 3: why",
    );
    await expect(r1.exec(["sleep", "4711"], { timeout: 200 })).rejects.toThrow("not done after 200 ms");
    await until(
      "the command is gone",
      2_000,
      async () => !(await r1.must(["ps", "ax"])).includes("sleep 4711"),
    );
  });

  it("signals a long-running command itself, stopping and continuing included", async () => {
    let ticks = 0;
    const p = lab
      .node("r1")
      .spawn(["sh", "-c", "while :; do echo tick; sleep 0.02; done"], { onLine: () => ticks++ });
    const pid = await p.hostPid();
    await until("it runs", 2_000, () => ticks > 2);
    await p.kill("SIGSTOP");
    await until("it has stopped", 2_000, async () =>
      (await lab.node("r1").must(["ps", "ax", "-o", "stat,args"]))
        .split("\n")
        .some((l) => /^T.*echo tick/.test(l)),
    );
    await p.kill("SIGCONT");
    const then = ticks;
    await until("it goes on", 2_000, () => ticks > then + 3);
    await p.kill("SIGKILL");
    await p.exited;
    expect(startTime(pid)).toBeUndefined();
    await p.kill("SIGTERM");
    await expect(p.hostPid()).rejects.toThrow("has ended");
  });

  it("leaves no zombie of a daemon whose parent has gone", async () => {
    const r1 = lab.node("r1");
    const pid = (await r1.must(["sh", "-c", "sleep 4712 >/dev/null 2>&1 & echo $!"])).trim();
    await r1.must(["kill", "-9", pid]);
    await until("it is gone altogether", 2_000, () => !existsSync(r1.path(`/proc/${pid}`)));
  });

  it("runs the same topology twice at once, and stops one without the other", async () => {
    const other = await startLab(file);
    const pids = other.nodes.map((n) => n.pid);
    expect((await other.node("r2").exec(["ping", "-c", "1", "-W", "2", "10.0.0.1"])).status).toBe(0);
    await other.stop();
    expect(pids.map((p) => existsSync(`/proc/${p}`))).toEqual([false, false]);
    expect(existsSync(other.runDir)).toBe(false);
    expect((await lab.node("r1").exec(["ping", "-c", "1", "-W", "2", "10.0.0.2"])).status).toBe(0);
  });

  it("takes everything down again when a command of the topology fails, and says which", async () => {
    const bad = join(dir, "bad.clab.yml");
    const nsFile = join(dir, "bad.ns");
    // A file outside of what is private to a node tells which network namespace it had.
    writeFileSync(bad, topology(`, "sh -c 'readlink /proc/self/ns/net > ${nsFile}'", "ls /nowhere"`));
    await expect(startLab(bad)).rejects.toThrow(/^r1: ls \/nowhere: status 2: .*No such file/);
    const namespace = readFileSync(nsFile, "utf8").trim();
    expect(namespace).toMatch(/^net:/);
    await until("no process of it is left", 5_000, () => !namespaces().has(namespace));
  });

  it("refuses a bind source that does not exist, before anything is started", async () => {
    const bad = join(dir, "bind.clab.yml");
    writeFileSync(bad, topology().replace(".:/run/here", "./missing:/run/here"));
    await expect(startLab(bad)).rejects.toThrow(`the bind source ${join(dir, "missing")} does not exist`);
  });

  it("leaves a kept lab up, finds it again, and takes it down", async () => {
    const kept = await startLab(file, { keep: true });
    const pids = kept.nodes.map((n) => n.pid);
    const found = keptLabs().find((k) => k.runDir === kept.runDir);
    expect(found).toEqual({
      runDir: kept.runDir,
      name: "small",
      nodes: kept.nodes.map(({ name, pid }) => ({ name, pid })),
    });
    if (found !== undefined) await stopKept(found);
    expect(pids.map((p) => existsSync(`/proc/${p}`))).toEqual([false, false]);
    expect(readKept(kept.runDir)).toBeUndefined();
  });

  describe("when the process that runs it", () => {
    let built: ReturnType<typeof build>;
    let child: ChildProcess | undefined;
    beforeAll(() => {
      built = build("lab", "plugin/net");
      writeFileSync(
        join(built.dir, "run.js"),
        `import { startLab } from "./lab/runner/lab.js";
         const lab = await startLab(process.argv[2]);
         console.log(JSON.stringify({ runDir: lab.runDir, pids: lab.nodes.map((n) => n.pid) }));
         if (process.argv[3] === "throw") setTimeout(() => { throw new Error("uncaught"); }, 10);
         else if (process.argv[3] === "end") ;
         else setInterval(() => {}, 1000);`,
      );
    });
    afterAll(() => {
      child?.kill("SIGKILL");
      built?.remove();
    });

    it.each([
      ["is killed with SIGKILL", "SIGKILL", "wait", false],
      ["gets SIGINT", "SIGINT", "wait", true],
      ["gets SIGTERM", "SIGTERM", "wait", true],
      ["throws", undefined, "throw", true],
      ["just ends", undefined, "end", true],
    ] as const)("%s, every node ends", async (_, signal, how, cleansUp) => {
      const c = spawn(process.execPath, [join(built.dir, "run.js"), file, how], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      child = c;
      const line = await new Promise<string>((done) =>
        createInterface({ input: c.stdout }).once("line", done),
      );
      const { runDir, pids } = JSON.parse(line) as { runDir: string; pids: number[] };
      expect(pids).toHaveLength(2);
      if (signal !== undefined) c.kill(signal);
      await until("every node has ended", 5_000, () => pids.every((p) => !existsSync(`/proc/${p}`)));
      await until("the runner has ended", 5_000, () => c.exitCode !== null || c.signalCode !== null);
      if (signal !== undefined) expect(c.signalCode).toBe(signal);
      expect(existsSync(runDir)).toBe(!cleansUp);
      rmSync(runDir, { recursive: true, force: true });
    });
  });
});

/** Network namespaces that have a process. */
function namespaces(): Set<string> {
  const found = new Set<string>();
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p)))
    try {
      found.add(readlinkSync(`/proc/${pid}/ns/net`));
    } catch {
      // It has ended meanwhile.
    }
  return found;
}
