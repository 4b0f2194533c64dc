/** Mutations of inputs. All randomness comes from the generator that is passed in. */
import { utf8 } from "./target.js";

export type Random = () => number;

const EDGES = [0, 1, 2, 4, 7, 8, 16, 32, 64, 127, 128, 254, 255];
const WIDE = [0, 1, 255, 256, 4095, 4096, 32_767, 32_768, 65_535];
const NUMBERS = ["0", "-1", "1", "255", "256", "4294967295", "4294967296", "9007199254740993", "1e9", "00"];

const pick = <T>(random: Random, list: readonly T[]): T | undefined =>
  list[Math.floor(random() * list.length)];
const below = (random: Random, n: number): number => Math.floor(random() * n);

/** A part in the middle is replaced by other bytes. */
function spliced(input: Uint8Array, at: number, gone: number, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.max(0, input.length - gone) + bytes.length);
  out.set(input.subarray(0, at));
  out.set(bytes, at);
  out.set(input.subarray(at + gone), at + bytes.length);
  return out;
}

const randomBytes = (random: Random, n: number): Uint8Array =>
  Uint8Array.from({ length: n }, () => below(random, 256));

/** Lengths are mostly short. */
const someLength = (random: Random, most: number): number =>
  Math.min(most, 1 + below(random, random() < 0.8 ? 8 : 64));

type Mutation = (
  random: Random,
  input: Uint8Array,
  others: readonly Uint8Array[],
  words: readonly Uint8Array[],
) => Uint8Array;

const MUTATIONS: readonly Mutation[] = [
  function flipBit(random, input) {
    const out = input.slice();
    const at = below(random, out.length);
    if (out.length > 0) out[at] = (out[at] ?? 0) ^ (1 << below(random, 8));
    return out;
  },
  function setByte(random, input) {
    const out = input.slice();
    if (out.length > 0)
      out[below(random, out.length)] = random() < 0.5 ? below(random, 256) : (pick(random, EDGES) ?? 0);
    return out;
  },
  function addToByte(random, input) {
    const out = input.slice();
    const at = below(random, out.length);
    if (out.length > 0) out[at] = (out[at] ?? 0) + below(random, 9) - 4;
    return out;
  },
  function setNumber(random, input) {
    const out = input.slice();
    if (out.length < 4) return out;
    const at = below(random, out.length - 3);
    const view = new DataView(out.buffer);
    const little = random() < 0.5;
    if (random() < 0.5) view.setUint16(at, pick(random, WIDE) ?? 0, little);
    else view.setUint32(at, random() < 0.5 ? (pick(random, WIDE) ?? 0) : 0xffffffff, little);
    return out;
  },
  function remove(random, input) {
    if (input.length === 0) return input;
    const at = below(random, input.length);
    return spliced(
      input,
      at,
      Math.min(someLength(random, input.length), input.length - at),
      new Uint8Array(0),
    );
  },
  function insert(random, input) {
    return spliced(input, below(random, input.length + 1), 0, randomBytes(random, someLength(random, 64)));
  },
  function repeat(random, input) {
    if (input.length === 0) return input;
    const from = below(random, input.length);
    const part = input.slice(from, from + someLength(random, input.length));
    return spliced(input, below(random, input.length + 1), 0, part);
  },
  function cut(random, input) {
    return input.slice(0, below(random, input.length + 1));
  },
  function cross(random, input, others) {
    const other = pick(random, others);
    if (other === undefined) return input;
    const from = below(random, other.length + 1);
    const part = other.slice(from, from + 1 + below(random, other.length + 1));
    const at = below(random, input.length + 1);
    return spliced(input, at, random() < 0.5 ? Math.min(part.length, input.length - at) : 0, part);
  },
  function insertWord(random, input, _others, words) {
    const word = pick(random, words);
    if (word === undefined) return input;
    const at = below(random, input.length + 1);
    return spliced(input, at, random() < 0.5 ? Math.min(word.length, input.length - at) : 0, word);
  },
  function setDigits(random, input) {
    const starts = [...input.keys()].filter((i) => isDigit(input[i]) && !isDigit(input[i - 1]));
    const at = pick(random, starts);
    if (at === undefined) return input;
    let end = at;
    while (isDigit(input[end])) end++;
    return spliced(input, at, end - at, utf8(pick(random, NUMBERS) ?? "0"));
  },
];

const isDigit = (b: number | undefined): boolean => b !== undefined && b >= 0x30 && b <= 0x39;

/** One input made from another by one to six mutations. */
export function mutated(
  random: Random,
  input: Uint8Array,
  others: readonly Uint8Array[],
  words: readonly Uint8Array[],
  longest: number,
): Uint8Array {
  let out = input;
  for (let n = 1 + below(random, 6); n > 0; n--) {
    const mutation = pick(random, MUTATIONS);
    if (mutation !== undefined) out = mutation(random, out, others, words);
  }
  return out.length > longest ? out.slice(0, longest) : out;
}
