/**
 * Ends a worker of the tests when vitest itself has ended, however that was killed: a lab's
 * namespaces and processes end with the worker that made them.
 */
process.once("disconnect", () => process.exit(1));
