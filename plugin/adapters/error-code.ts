/** The code of a system error (errno(3)), as Node.js names it. */

/** Returns `ENOENT` and the like; undefined for an error without a code. */
export const codeOf = (e: unknown): string | undefined =>
  e instanceof Error && "code" in e && typeof e.code === "string" ? e.code : undefined;
