/** Names the path that packets of each direction are expected to take in the end. */
import type { PathName } from "../../traffic/paths.js";

/** Of one direction; `any` when it is not for shortcutd to decide. */
export type PathOutcome = PathName | "any";
/** Of both directions, or of A to C and of C to A. */
export type PathOutcomes = PathOutcome | readonly [PathOutcome, PathOutcome];

export const outcomeOf = (o: PathOutcomes, direction: 0 | 1): PathOutcome =>
  typeof o === "string" ? o : o[direction];
