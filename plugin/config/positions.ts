/** The YAML text: its content as plain values, its errors in plain words, and the line and column of each key. */
import {
  type ErrorCode,
  isMap,
  isNode,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type YAMLMap,
  type YAMLParseError,
  type YAMLWarning,
} from "yaml";
import { err, ok, type Result } from "../net/result.js";

export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface YamlProblem extends Position {
  readonly problem: string;
}

/** The library's errors by what a person can do about them. */
const wording: Readonly<Record<ErrorCode, string>> = {
  ALIAS_PROPS: "an alias (*name) has neither anchor nor tag",
  BAD_ALIAS: "* begins an alias and needs a name: quote the text if it is one",
  BAD_COLLECTION_TYPE: "the tag does not fit the value",
  BAD_DIRECTIVE: "is not a YAML directive",
  BAD_DQ_ESCAPE: "is not an escape sequence of a double-quoted text",
  BAD_INDENT: "is indented wrongly",
  BAD_PROP_ORDER: "anchor and tag stand before the value",
  BAD_SCALAR_START: "a text cannot begin with this character: quote it",
  BLOCK_AS_IMPLICIT_KEY: "a nested key begins on a line of its own",
  BLOCK_IN_FLOW: "within { } and [ ] a value cannot be an indented block",
  DUPLICATE_KEY: "the key is there twice",
  IMPOSSIBLE: "is not understood",
  KEY_OVER_1024_CHARS: "the key is too long",
  MISSING_CHAR: "a character is missing, such as a closing quote, bracket or brace, or a comma",
  MULTILINE_IMPLICIT_KEY: "the key spans several lines",
  MULTIPLE_ANCHORS: "a value has at most one anchor",
  MULTIPLE_DOCS: "the file has a second document (---): only one is allowed",
  MULTIPLE_TAGS: "a value has at most one tag",
  NON_STRING_KEY: "the key is not a text",
  RESOURCE_EXHAUSTION: "is nested too deeply",
  TAB_AS_INDENT: "a tab cannot indent: use spaces",
  TAG_RESOLVE_FAILED: "the tag is not known",
  UNEXPECTED_TOKEN: "is not expected here",
};

/** Mistakes that are shown: later ones are often consequences of the first. */
const MOST_PROBLEMS = 10;
/** Control characters that no text has, and what decoding puts in the place of bytes that are no UTF-8. */
const NO_TEXT = /(?![\t\n\v\f\r])\p{Cc}|\ufffd/u;

const startOf = (node: unknown): number | undefined =>
  isNode(node) ? (node.range?.[0] ?? undefined) : undefined;

export class Source {
  private constructor(
    private readonly root: YAMLMap,
    private readonly lines: LineCounter,
    /** The content as plain values. */
    readonly value: unknown,
  ) {}

  static parse(text: string): Result<Source, readonly YamlProblem[]> {
    const lines = new LineCounter();
    const problem = (offset: number, problem: string) => ({ ...positionAt(lines, offset), problem });
    const binary = text.search(NO_TEXT);
    if (binary >= 0) {
      const line = text.slice(0, binary).split("\n").length;
      return err([{ line, column: 1, problem: "is not text in UTF-8" }]);
    }
    const doc = parseDocument(text, { lineCounter: lines, uniqueKeys: true, logLevel: "error" });
    const faults: readonly (YAMLParseError | YAMLWarning)[] = [...doc.errors, ...doc.warnings];
    if (faults.length > 0) {
      const shown = faults.slice(0, MOST_PROBLEMS).map((e) => problem(e.pos[0], wording[e.code]));
      return err(shown);
    }
    if (!isMap(doc.contents)) return err([problem(0, "must be a mapping of keys: role, overlay, …")]);
    const unresolved: YamlProblem[] = [];
    visit(doc, {
      Alias: (_, alias) => {
        if (alias.resolve(doc) === undefined)
          unresolved.push(
            problem(startOf(alias) ?? 0, `*${alias.source} has no anchor &${alias.source} before it`),
          );
      },
    });
    if (unresolved.length > 0) return err(unresolved);
    try {
      return ok(new Source(doc.contents, lines, doc.toJS()));
    } catch {
      // the library's bound on what aliases may expand to
      return err([problem(0, "its aliases (*name) expand to too much")]);
    }
  }

  /** Where the value of a key stands, or the nearest that exists above it; `atKey`: where the key itself stands. */
  positionOf(path: readonly PropertyKey[], atKey = false): Position {
    return positionAt(this.lines, this.offsetOf(path, atKey));
  }

  /** Whether the file itself says something there. */
  has(path: readonly PropertyKey[]): boolean {
    return this.at(path) !== undefined;
  }

  private at(path: readonly PropertyKey[]): unknown {
    let value = this.value;
    for (const step of path) {
      if (typeof value !== "object" || value === null) return undefined;
      value = (value as Record<PropertyKey, unknown>)[step];
    }
    return value;
  }

  private offsetOf(path: readonly PropertyKey[], atKey: boolean): number {
    let node: unknown = this.root;
    let offset = startOf(node) ?? 0;
    for (const [i, step] of path.entries()) {
      if (isMap(node)) {
        const pair = node.items.find((p) => String(p.key) === String(step));
        if (pair === undefined) return offset;
        const keyAt = startOf(pair.key);
        const wantsKey = atKey && i === path.length - 1;
        offset = (wantsKey ? keyAt : (startOf(pair.value) ?? keyAt)) ?? offset;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(step)];
        offset = startOf(node) ?? offset;
      } else return offset;
    }
    return offset;
  }
}

function positionAt(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
}
