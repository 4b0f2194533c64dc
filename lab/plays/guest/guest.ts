/**
 * A guest: QEMU without KVM (TCG), Debian's kernel, and this machine's files by 9p, read-only under
 * a layer in memory. It is for what a kernel has to be able to do and this machine's may not:
 * WireGuard, VRFs, a clock of its own to step. It has no network card; what runs in it cannot leave
 * it, and everything in it is gone when it ends. It ends with this process, however that ends.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseTried, type Tried } from "./tried.js";

/** Programs of `dist/lab/plays/guest` that may be run in it. */
export const PROGRAMS = ["genl", "triangle", "vrf"] as const;
export type Program = (typeof PROGRAMS)[number];

export interface ProgramResult {
  readonly tried: readonly Tried[];
  /** Exit status; undefined when it never ended. */
  readonly status: number | undefined;
  /** Everything that it printed. */
  readonly output: string;
}

export type GuestResult =
  | {
      readonly kind: "ran";
      readonly results: ReadonlyMap<Program, ProgramResult>;
      /** The output of the guest's kernel. */
      readonly console: string;
      readonly seconds: number;
    }
  /** QEMU or the kernel cannot be had. */
  | { readonly kind: "skipped"; readonly reason: string };

export interface GuestOptions {
  /** Directory of this repository, built. */
  readonly repository: string;
  /** Milliseconds for the guest from switching on to switching off; then it is killed. */
  readonly timeout: number;
}

const MEMORY_MIB = 2048;
/** The status of kernel.sh when the fault is not ours. */
const NOT_TO_BE_HAD = 3;
/** For downloading and unpacking. */
const PREPARATION_TIMEOUT = 600_000;

function prepare(repository: string): Promise<{ readonly kernel: string } | { readonly skipped: string }> {
  return new Promise((resolve, reject) => {
    const script = join(repository, "lab/plays/guest/kernel.sh");
    const options = { encoding: "utf8", timeout: PREPARATION_TIMEOUT } as const;
    execFile("sh", [script], options, (error, stdout, stderr) => {
      if (error === null) return resolve({ kernel: stdout.trim() });
      const said = stderr.trim().split("\n").at(-1) ?? "";
      if (error.code === NOT_TO_BE_HAD) return resolve({ skipped: said });
      reject(new Error(`${script}: ${said || error.message}`));
    });
  });
}

const share = (tag: string, path: string, readOnly: boolean): string[] => [
  "-fsdev",
  `local,id=${tag},path=${path},security_model=none,multidevs=remap${readOnly ? ",readonly=on" : ""}`,
  "-device",
  `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
];

function qemu(kernel: string, job: string): string[] {
  return [
    // TCG: where there is a /dev/kvm inside another virtual machine, it may hang
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", String(MEMORY_MIB)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none"],
    ...["-kernel", join(kernel, "vmlinuz"), "-initrd", join(kernel, "initrd")],
    ...["-append", `console=ttyS0 quiet panic=-1 mitigations=off job.modules=${join(kernel, "lib/modules")}`],
    ...["-serial", `file:${join(job, "console")}`],
    ...share("root", "/", true),
    ...share("job", job, false),
  ];
}

const read = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "");

/**
 * Runs the programs one after the other in one guest. @throws Error when the guest does not start,
 * or is not done in time.
 */
export async function runGuest(programs: readonly Program[], options: GuestOptions): Promise<GuestResult> {
  const prepared = await prepare(options.repository);
  if ("skipped" in prepared) return { kind: "skipped", reason: prepared.skipped };
  const job = mkdtempSync(join(tmpdir(), "shortcutd-guest-"));
  const clean = (): void => rmSync(job, { recursive: true, force: true });
  // also when this process is interrupted
  process.once("exit", clean);
  try {
    const lines = programs.map((p) => {
      const program = join(options.repository, "dist/lab/plays/guest", `${p}.js`);
      return `node '${program.replaceAll("'", "'\\''")}' > /run/job/${p}.out 2>&1; echo $? > /run/job/${p}.status`;
    });
    writeFileSync(join(job, "run.sh"), `${lines.join("\n")}\n`);
    const from = performance.now();
    const problem = await boot(qemu(prepared.kernel, job), options.timeout);
    const results = new Map<Program, ProgramResult>();
    for (const p of programs) {
      const output = read(join(job, `${p}.out`));
      const status = read(join(job, `${p}.status`)).trim();
      results.set(p, {
        tried: parseTried(output),
        status: status === "" ? undefined : Number(status),
        output,
      });
    }
    const said = read(join(job, "console"));
    if (problem !== undefined) {
      const last = [...results].map(([p, r]) => `${p}:\n${r.output}`).join("\n");
      throw new Error(`${problem}\n${said}\n${last}`);
    }
    return { kind: "ran", results, console: said, seconds: (performance.now() - from) / 1000 };
  } finally {
    process.removeListener("exit", clean);
    clean();
  }
}

/** Until it has switched itself off. Undefined, or what went wrong. */
function boot(argv: readonly string[], timeout: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    // The kernel kills it when this process is killed; `exit` and signals are for a process that
    // ends in order.
    const machine: ChildProcess = spawn("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64", ...argv], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    machine.stderr?.on("data", (d: Buffer) => {
      said += d.toString();
    });
    const kill = (): void => void machine.kill("SIGKILL");
    process.once("exit", kill);
    const timer = setTimeout(() => {
      said = `the guest was not done after ${timeout / 1000} s ${said}`;
      kill();
    }, timeout);
    const end = (problem: string | undefined): void => {
      clearTimeout(timer);
      process.removeListener("exit", kill);
      resolve(problem);
    };
    machine.once("error", (e) => end(`qemu-system-x86_64: ${e.message}`));
    machine.once("close", (status, signal) => {
      end(status === 0 ? undefined : `qemu-system-x86_64 ended with ${status ?? signal}: ${said.trim()}`);
    });
  });
}
