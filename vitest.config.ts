import { defineConfig, type ViteUserConfig } from "vitest/config";

const files = (...names: string[]): string[] => names.map((name) => `test/kernel/${name}.test.ts`);

/** Tests that count packets or measure time: each wants the machine for itself. */
const LABS = files("scenario-paths", "scenario-deaths", "main-job", "shown", "nat", "lab-*", "cookbook");
/** Networks of other shapes than the triangle's: `npm run test:designs`. */
const DESIGNS = files("designs", "neighbours", "networks", "network-examples");
/** Slow or rare: an emulated machine, daemons that are downloaded, firewalls whose effects take minutes. `npm run test:all` runs these and the designs too. */
const RARE = files(
  "consent",
  "guest",
  "versions",
  "firewall-reload",
  "others-rules",
  "interface-changes",
  "closed-ports",
  "busy",
  "preshared",
  "scenario-probes",
);
/** A test may run a scenario three times: what failed on a starved machine is repeated (lab/runner/retry.ts). */
const rooted = {
  testTimeout: 360_000,
  hookTimeout: 90_000,
  pool: "forks",
  setupFiles: ["test/kernel/end-with-parent.ts", "test/kernel/starved.ts"],
} satisfies NonNullable<ViteUserConfig["test"]>;

/** `unit` needs no privileges; the others want root and make their own namespaces. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts", "test/sim/**/*.test.ts", "test/fuzz/**/*.test.ts"],
          testTimeout: 180_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "kernel",
          include: ["test/kernel/**/*.test.ts"],
          exclude: [...LABS, ...DESIGNS, ...RARE],
          maxWorkers: 2,
          ...rooted,
        },
      },
      { test: { name: "lab", include: LABS, fileParallelism: false, ...rooted } },
      { test: { name: "designs", include: DESIGNS, fileParallelism: false, ...rooted } },
      { test: { name: "rare", include: RARE, fileParallelism: false, ...rooted } },
    ],
  },
});
