/**
 * Network namespaces for tests. Each has its own `/run` (so that daemons use their default sockets
 * and pid files beside other copies of themselves) and its own pid namespace: when the one process
 * that holds it dies, the kernel kills everything that ran in it, also when the test process is
 * killed. The test process itself can move its sockets there: the network namespace belongs to a
 * thread, and Node makes its sockets on the main thread.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const setns: (fd: number, type: number) => number = libc.func("int setns(int fd, int nstype)");
const CLONE_NEWNET = 0x40000000;

/**
 * Polls until `condition` yields something other than undefined or false. @throws Error that names
 * `what` after `ms`.
 */
export async function eventually<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 20_000,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * For {@link Namespace.sh}: ve0 (10.0.0.1) and ve1 (10.0.0.2) are the ends of one cable, in one
 * namespace: accept_local, rules and the binding to a device keep them apart.
 */
export const CABLE = `
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    sysctl -qw net.ipv4.conf.default.accept_local=1 net.ipv4.conf.all.accept_local=1
    ip link add ve0 type veth peer name ve1
    for i in ve0 ve1; do echo 1 > /proc/sys/net/ipv6/conf/$i/addr_gen_mode; ip link set $i up; done
    ip addr add 10.0.0.1/32 dev ve0; ip addr add 10.0.0.2/32 dev ve1
    ip rule add pref 1 oif ve0 table 100; ip rule add pref 2 oif ve1 table 101
    ip rule del pref 0; ip rule add pref 10 table local
    ip route add 10.0.0.2/32 dev ve0 table 100; ip route add 10.0.0.1/32 dev ve1 table 101`;

/** For {@link Namespace.sh}: wg0 (10.255.0.1/24), a WireGuard interface, with whatever WireGuard the machine has. */
export const OVERLAY = `
    ip link add wg0 type wireguard 2> /dev/null || wireguard-go wg0
    wg genkey > /run/overlay.key; wg set wg0 private-key /run/overlay.key
    ip addr add 10.255.0.1/24 dev wg0; ip link set wg0 up; mkdir -p /run/wireguard`;

export class Namespace {
  private constructor(
    private readonly holder: ChildProcess,
    /** Pid, as the host sees it, of the first process inside. */
    readonly pid: number,
  ) {}

  /** A namespace with `lo` up, a private /run and /proc, and nothing else. */
  static async create(): Promise<Namespace> {
    const script =
      "mount --make-rprivate / && mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && echo ready && exec cat";
    const holder = spawn(
      "unshare",
      ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    let said = "";
    let complained = "";
    holder.stdout?.on("data", (d: Buffer) => {
      said += d.toString();
    });
    holder.stderr?.on("data", (d: Buffer) => {
      complained += d.toString();
    });
    try {
      await eventually(
        "a namespace",
        () => {
          if (holder.exitCode !== null) throw new Error(`unshare failed: ${complained.trim()}`);
          return said.includes("ready");
        },
        10_000,
      );
    } catch (error) {
      holder.kill("SIGKILL");
      throw error;
    }
    const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, "utf8").trim();
    return new Namespace(holder, Number(children.split(" ")[0]));
  }

  get netns(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  private enter(command: readonly string[]): string[] {
    return ["-t", String(this.pid), "-n", "-m", "-p", "--", ...command];
  }

  /**
   * Runs a command inside, waits for it, and returns its standard output. @throws Error with its
   * standard error.
   */
  run(...command: string[]): string {
    return execFileSync("nsenter", this.enter(command), {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 20_000,
      maxBuffer: 64 << 20,
    });
  }

  /** As {@link run}, through `sh -c`. */
  sh(script: string): string {
    return this.run("sh", "-c", script);
  }

  /** Starts a process inside that lives until it is killed or the namespace ends. */
  start(...command: string[]): ChildProcess {
    return spawn("nsenter", this.enter(command), { stdio: "ignore" });
  }

  /**
   * Moves the sockets that this test process makes from now on into the namespace, until the
   * function returned is called.
   */
  enterNetwork(): () => void {
    const home = openSync("/proc/thread-self/ns/net", "r");
    const there = openSync(this.netns, "r");
    const result = setns(there, CLONE_NEWNET);
    closeSync(there);
    if (result !== 0) {
      closeSync(home);
      throw new Error("setns failed: are we root?");
    }
    return () => {
      setns(home, CLONE_NEWNET);
      closeSync(home);
    };
  }

  /** Kills everything inside; resolves when it is gone. */
  async destroy(): Promise<void> {
    if (this.holder.exitCode !== null || this.holder.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => {
      this.holder.once("exit", () => resolve());
    });
    const force = setTimeout(() => this.holder.kill("SIGKILL"), 5_000);
    this.holder.stdin?.end();
    await gone;
    clearTimeout(force);
  }
}
