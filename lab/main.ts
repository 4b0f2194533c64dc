/** The lab's command line: brings a topology up, shows how to enter it, takes kept labs down. */
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { keptLabs, startLab, stopKept } from "./lab.js";

const topologyFile = (): string => {
  const beside = fileURLToPath(new URL("../../lab/triangle.clab.yml", import.meta.url));
  return beside;
};

interface Options {
  topology: string;
  daemonA: string;
  daemonB: string;
  daemonC: string;
  keep: boolean;
  down: boolean;
}

const daemon = (router: string): Option =>
  new Option(`--daemon-${router} <daemon>`, `routing daemon of router ${router}`)
    .choices(["bird", "frr"])
    .default("bird");

async function main(): Promise<void> {
  const program = new Command("lab")
    .description("Bring the lab up in network namespaces.")
    .option("--topology <file>", "containerlab topology file", topologyFile())
    .addOption(daemon("a"))
    .addOption(daemon("b"))
    .addOption(daemon("c"))
    .option("--keep", "leave the lab up and print how to enter each router", false)
    .option("--down", "take kept labs down", false);
  program.parse();
  const options = program.opts<Options>();
  if (options.down) {
    const kept = keptLabs();
    for (const lab of kept) {
      await stopKept(lab);
      console.log(`down: ${lab.name} (${lab.runDir})`);
    }
    if (kept.length === 0) console.log("no kept lab");
    return;
  }
  const env = { DAEMON_A: options.daemonA, DAEMON_B: options.daemonB, DAEMON_C: options.daemonC };
  const lab = await startLab(options.topology, { env, keep: options.keep });
  if (!options.keep) {
    await lab.stop();
    return;
  }
  for (const node of lab.nodes) console.log(`${node.name.padEnd(8)} ${node.enterCommand}`);
  console.log("take it down with: npm run lab -- --down");
}

main().catch((e: unknown) => {
  console.error(`lab: ${e instanceof Error ? e.message : String(e)}`);
  process.exitCode = 1;
});
