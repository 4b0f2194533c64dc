/** Units, where a bare number would leave them open: a type names the unit, conversions are named too. */

export type Milliseconds = number;
export type Seconds = number;
export type BitsPerSecond = number;

/** Rounds to the whole seconds that WireGuard and the control protocol carry. */
export const wholeSeconds = (time: Milliseconds): Seconds => Math.round(time / 1000);
export const toSeconds = (time: Milliseconds): Seconds => time / 1000;
export const toMilliseconds = (time: Seconds): Milliseconds => time * 1000;
