/** What tests of the documents read: the files, their code blocks, headings and links. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../..", import.meta.url));

const SKIPPED: ReadonlySet<string> = new Set(["node_modules", "dist", ".git", "out", "pb"]);

/** Every file below a folder of the repository that ends in one of these, as paths from the repository's root. */
export function filesBelow(folder: string, ...endings: readonly string[]): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : filesBelow(path, ...endings);
    return endings.some((e) => entry.name.endsWith(e)) ? [relative(root, join(root, path))] : [];
  });
}

export const documents = (): string[] => filesBelow(".", ".md");
export const textOf = (path: string): string => readFileSync(join(root, path), "utf8");

export interface Block {
  /** Headings above it, outermost first. */
  readonly headings: readonly string[];
  readonly language: string;
  readonly lines: readonly string[];
}

interface Heading {
  readonly level: number;
  readonly text: string;
}

const headingOf = (line: string): Heading | undefined => {
  const m = /^(#+) (.*)$/.exec(line);
  return m === null ? undefined : { level: m[1]?.length ?? 1, text: m[2] ?? "" };
};

/** The fenced code blocks of a document. */
export function codeBlocks(text: string): Block[] {
  const blocks: Block[] = [];
  const above: Heading[] = [];
  let open: { language: string; lines: string[] } | undefined;
  for (const line of text.split("\n")) {
    const fence = /^\s*```(\w*)/.exec(line);
    if (fence !== null) {
      if (open !== undefined) blocks.push({ ...open, headings: above.map((h) => h.text) });
      open = open === undefined ? { language: fence[1] ?? "", lines: [] } : undefined;
    } else if (open !== undefined) open.lines.push(line);
    else {
      const heading = headingOf(line);
      if (heading === undefined) continue;
      while ((above.at(-1)?.level ?? 0) >= heading.level) above.pop();
      above.push(heading);
    }
  }
  return blocks;
}

/** The shell commands of a document, or of what is below one heading of it; comments are left out. */
export function commandsOf(path: string, below?: string): string[] {
  const blocks = codeBlocks(textOf(path)).filter((b) => b.language === "sh");
  return blocks
    .filter((b) => below === undefined || b.headings.includes(below))
    .flatMap((b) => b.lines.map((l) => l.replace(/\s+# .*$/, "").trim()))
    .filter((l) => l !== "");
}

/** A document without its code blocks; with `inline` set, without code in its lines either. */
export function proseOf(text: string, inline = true): string {
  let fenced = false;
  const lines = text.split("\n").map((line) => {
    const fence = /^\s*```/.test(line);
    if (fence) fenced = !fenced;
    return fence || fenced ? "" : line;
  });
  const prose = lines.join("\n");
  return inline ? prose.replace(/`[^`]*`/g, "CODE") : prose;
}

/** The anchors of a document, as GitHub makes them from headings. */
export function anchorsOf(text: string): Set<string> {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  for (const line of proseOf(text, false).split("\n")) {
    const heading = headingOf(line);
    if (heading === undefined) continue;
    const slug = heading.text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-");
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    anchors.add(times === 0 ? slug : `${slug}-${times}`);
  }
  return anchors;
}

/** The targets of all links and pictures. */
export const linksOf = (text: string): string[] =>
  [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)].map((m) => m[1] ?? "");
