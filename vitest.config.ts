import { defineConfig } from "vitest/config";

/** Tests that count packets or measure time: each wants the machine for itself. */
const LABS = ["scenario-*", "main-job", "shown", "nat", "lab-*", "consent", "cookbook", "versions"].map(
  (name) => `test/kernel/${name}.test.ts`,
);
/** `npm run test:designs`: networks of other shapes than the triangle's. */
const DESIGNS = ["designs", "neighbours"].map((name) => `test/kernel/${name}.test.ts`);
const rooted = { testTimeout: 120_000, hookTimeout: 60_000, pool: "forks" } as const;

/** `unit` needs no privileges; `kernel` and `lab` want root and make their own namespaces. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts", "test/sim/**/*.test.ts"],
          testTimeout: 180_000,
        },
      },
      {
        test: {
          name: "kernel",
          include: ["test/kernel/**/*.test.ts"],
          exclude: [...LABS, ...DESIGNS],
          maxWorkers: 2,
          ...rooted,
        },
      },
      { test: { name: "lab", include: LABS, fileParallelism: false, ...rooted } },
      { test: { name: "designs", include: DESIGNS, fileParallelism: false, ...rooted } },
    ],
  },
});
