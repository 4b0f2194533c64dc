/**
 * Phrases over which readers of the documents have stumbled, and what to write instead. They are looked for in prose: documents
 * without their code, and comments and strings of source files.
 */

export interface Phrase {
  readonly pattern: RegExp;
  readonly instead: string;
}

const PHRASES: readonly Phrase[] = [
  { pattern: /(?<!\bthere )\bis no (?!longer\b|more\b)/i, instead: "is not a, without" },
  { pattern: /\b(?:are|is) none\b/i, instead: "is not, does not" },
  { pattern: /\bby the hub\b/i, instead: "via the hub, on the hub path" },
  { pattern: /\bby which way\b/i, instead: "on which path" },
  { pattern: /\bagain and again\b/i, instead: "repeatedly" },
  { pattern: /\banew\b/i, instead: "again" },
  { pattern: /\bso (?:many|much)\b/i, instead: "a number or a name" },
  { pattern: /\bis another than\b/i, instead: "has changed since, differs from" },
  { pattern: /\bof no account\b/i, instead: "does not matter" },
  { pattern: /\bis no news\b/i, instead: "says nothing new" },
  { pattern: /\bwhereabouts\b/i, instead: "reachability" },
  { pattern: /\bstrangers?\b/i, instead: "unattested source" },
  { pattern: /\bput (?:\w+ ){0,3}to use\b/i, instead: "reference, use" },
  { pattern: /\bis spoiled\b/i, instead: "is broken" },
  { pattern: /\bset on by\b/i, instead: "advanced by" },
  { pattern: /\blooked through\b/i, instead: "name what is unknown" },
  { pattern: /\bnot further\b/i, instead: "what blocks it" },
  { pattern: /\ball the same\b/i, instead: "nevertheless" },
  { pattern: /\bnone of (?:BGP|its own|our)\b/i, instead: "not a ... of" },
  // A sentence whose subject is a clause with Who, What or Whose. A question is not meant.
  { pattern: /(?:^|[.:;!]\s+|\n\n)(?:Who|What|Whose)\b(?![^.?!\n]*\?)/, instead: "the noun" },
];

/** Paragraphs on one line each, so that a phrase is found across the end of a line. */
const joined = (text: string): string =>
  text
    .split(/\n\s*\n/)
    .map((p) => p.replace(/\s*\n\s*/g, " "))
    .join("\n\n");

/** What stumbles in a piece of prose: the words around, and what to write instead. */
export function stumbles(prose: string): string[] {
  const text = joined(prose);
  return PHRASES.flatMap(({ pattern, instead }) =>
    [...text.matchAll(new RegExp(pattern.source, `${pattern.flags}g`))].map((m) => {
      const around = text.slice(Math.max(0, m.index - 30), m.index + m[0].length + 30).replace(/\s+/g, " ");
      return `"...${around}...": write ${instead}`;
    }),
  );
}

/** Comments of a file whose comments begin with one of these marks at the beginning of a line or after blanks. */
export const commentsOf = (text: string, mark: RegExp): string =>
  text
    .split("\n")
    .map((line) => mark.exec(line)?.[1] ?? "")
    .join("\n");

const TOKEN =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|\/(?![*/\s])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*(?=[\s,;.):])/g;

/** The code of a reason or a kind, such as `path-lost`: not prose. */
const CODE = /^[a-z]+(?:-[a-z]+)+$/;

/** Returns comments and string literals of a TypeScript file, each on its own; code in comments, and codes, are left out. */
export function proseOfSource(text: string): string[] {
  return [...text.matchAll(TOKEN)]
    .flatMap(([token]) => {
      if (token.startsWith("/*"))
        return [token.replace(/^\/\*+|\*\/$|\n\s*\*/g, (m) => (m.startsWith("\n") ? "\n" : ""))];
      if (token.startsWith("//")) return [token.slice(2)];
      if (token.startsWith("/")) return [];
      return CODE.test(token.slice(1, -1)) ? [] : [token.slice(1, -1)];
    })
    .map((p) => p.trim().replace(/`[^`\n]*`/g, "CODE"));
}
