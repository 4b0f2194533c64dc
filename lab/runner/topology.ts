/**
 * Reads a containerlab topology file, or rather the part of it that this runner can do: nodes of
 * kind `linux` with `binds`, `exec`, `env` and `sysctls`, and plain veth links. The same file stays
 * valid for containerlab itself. A key outside that part is an error that names file, line and what
 * is allowed: a runner that silently skips half a topology brings up a different network. Semantics
 * follow containerlab's manual (topo-def-file, nodes): variables are substituted in the text before
 * it is parsed, and `exec` lines are split into words without a shell.
 */
import { dirname, isAbsolute, resolve } from "node:path";
import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Node as YamlNode } from "yaml";
import { err, ok, type Result } from "../../plugin/net/result.js";

export interface Bind {
  /** Absolute path on the host. */
  readonly source: string;
  /** Absolute path in the node. */
  readonly target: string;
  readonly readOnly: boolean;
}

export interface TopologyNode {
  readonly name: string;
  readonly binds: readonly Bind[];
  /** Argument vectors, in order. */
  readonly exec: readonly (readonly string[])[];
  readonly env: Readonly<Record<string, string>>;
  /** `net.ipv4.ip_forward` → `1`. */
  readonly sysctls: Readonly<Record<string, string>>;
}

export interface LinkEnd {
  readonly node: string;
  readonly dev: string;
}

export interface TopologyLink {
  readonly ends: readonly [LinkEnd, LinkEnd];
  /** Bytes; undefined leaves the kernel's default. */
  readonly mtu: number | undefined;
}

export interface Topology {
  readonly name: string;
  readonly nodes: readonly TopologyNode[];
  readonly links: readonly TopologyLink[];
}

/** Names the problem and its place: `triangle.clab.yml:12:7: topology.nodes.a: ...`. */
export class TopologyError extends Error {
  override readonly name = "TopologyError";
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:=default}` and their forms without colon, as
 * containerlab does before parsing. An unset variable without default is an error (containerlab
 * would put nothing there).
 */
export function substitute(text: string, env: Env): Result<string, string> {
  const missing = new Set<string>();
  const out = text.replace(
    /\$(?:\{([A-Za-z_]\w*)(?:(:?)([-=])([^}]*))?\}|([A-Za-z_]\w*))/g,
    (
      _,
      braced: string | undefined,
      colon: string | undefined,
      operator: string | undefined,
      fallback,
      bare,
    ) => {
      const name = String(braced ?? bare);
      const value = env[name];
      if (value !== undefined && !(colon === ":" && value === "")) return value;
      if (operator !== undefined) return String(fallback);
      missing.add(name);
      return "";
    },
  );
  if (missing.size > 0) return err(`variable ${[...missing].join(", ")} is not set and has no default`);
  return ok(out);
}

/**
 * Words of a command line: blanks separate, `'...'` and `"..."` group, a backslash quotes the next
 * character.
 */
export function splitWords(line: string): Result<string[], string> {
  const words: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < line.length; i++) {
    const c = line.charAt(i);
    if (c === " " || c === "\t" || c === "\n") {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (c === "'" || c === '"') {
      let text = "";
      for (i++; i < line.length && line.charAt(i) !== c; i++) {
        if (c === '"' && line.charAt(i) === "\\" && i + 1 < line.length) i++;
        text += line.charAt(i);
      }
      if (i >= line.length) return err(`no closing ${c}`);
      word = (word ?? "") + text;
    } else if (c === "\\" && i + 1 < line.length) {
      word = (word ?? "") + line.charAt(++i);
    } else word = (word ?? "") + c;
  }
  if (word !== undefined) words.push(word);
  return ok(words);
}

const NODE_KEYS = ["kind", "image", "network-mode", "binds", "exec", "env", "sysctls"] as const;

/** Thrown inside this module only; {@link parseTopology} turns it into a Result. */
class Fault extends Error {
  constructor(
    readonly where: YamlNode | null | undefined,
    readonly path: string,
    message: string,
  ) {
    super(message);
  }
}

/** `key:` with nothing behind it is as good as no key. */
const isAbsent = (node: YamlNode | null | undefined): node is null | undefined =>
  node === null || node === undefined || (isScalar(node) && node.value === null);

type Fields = Map<string, { key: YamlNode; value: YamlNode | null }>;

function fields(
  node: YamlNode | null | undefined,
  path: string,
  allowed: readonly string[] | undefined,
): Fields {
  if (isAbsent(node)) return new Map();
  if (!isMap<YamlNode, YamlNode | null>(node)) throw new Fault(node, path, "must be a mapping");
  const out: Fields = new Map();
  for (const { key, value } of node.items) {
    const name = isScalar(key) ? String(key.value) : "";
    if (name === "") throw new Fault(key, path, "a key must be a plain word");
    if (allowed !== undefined && !allowed.includes(name))
      throw new Fault(
        key,
        path,
        `this runner does not know the key '${name}'; it knows ${allowed.join(", ")}`,
      );
    out.set(name, { key, value });
  }
  return out;
}

function text(node: YamlNode | null | undefined, path: string): string {
  if (!isScalar(node) || node.value === null || typeof node.value === "object")
    throw new Fault(node, path, "must be a string");
  return String(node.value);
}

function list(node: YamlNode | null | undefined, path: string): YamlNode[] {
  if (isAbsent(node)) return [];
  if (!isSeq<YamlNode>(node)) throw new Fault(node, path, "must be a list");
  return node.items;
}

function strings(node: YamlNode | null | undefined, path: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, { value }] of fields(node, path, undefined)) out[name] = text(value, `${path}.${name}`);
  return out;
}

interface NodeSettings {
  readonly binds: readonly Bind[];
  readonly exec: readonly (readonly string[])[];
  readonly env: Readonly<Record<string, string>>;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly kind: string | undefined;
}

function decodeBind(node: YamlNode, path: string, directory: string): Bind {
  const [source, target, options, ...rest] = text(node, path).split(":");
  if (
    !source ||
    !target ||
    rest.length > 0 ||
    (options !== undefined && options !== "ro" && options !== "rw")
  )
    throw new Fault(node, path, "a bind is SOURCE:TARGET, SOURCE:TARGET:ro or SOURCE:TARGET:rw");
  if (!isAbsolute(target)) throw new Fault(node, path, `the target '${target}' must be an absolute path`);
  return { source: resolve(directory, source), target, readOnly: options === "ro" };
}

function decodeSettings(node: YamlNode | null | undefined, path: string, directory: string): NodeSettings {
  const f = fields(node, path, NODE_KEYS);
  const kind = f.get("kind");
  if (kind !== undefined && text(kind.value, `${path}.kind`) !== "linux")
    throw new Fault(kind.value, `${path}.kind`, "this runner brings up nodes of kind 'linux' only");
  const mode = f.get("network-mode");
  if (mode !== undefined && text(mode.value, `${path}.network-mode`) !== "none")
    throw new Fault(mode.value, `${path}.network-mode`, "only 'none': a node has the links of this file");
  const env = strings(f.get("env")?.value, `${path}.env`);
  const sysctls = strings(f.get("sysctls")?.value, `${path}.sysctls`);
  for (const name of Object.keys(sysctls))
    if (!/^net(\.[\w-]+)+$/.test(name))
      throw new Fault(
        f.get("sysctls")?.value,
        `${path}.sysctls`,
        `'${name}' is not in net.: it would change the host`,
      );
  return {
    kind: kind === undefined ? undefined : "linux",
    binds: list(f.get("binds")?.value, `${path}.binds`).map((b) => decodeBind(b, `${path}.binds`, directory)),
    exec: list(f.get("exec")?.value, `${path}.exec`).map((line) => {
      const words = splitWords(text(line, `${path}.exec`));
      if (!words.ok) throw new Fault(line, `${path}.exec`, words.error);
      if (words.value.length === 0) throw new Fault(line, `${path}.exec`, "an empty command");
      return words.value;
    }),
    env,
    sysctls,
  };
}

function decodeEnd(node: YamlNode, path: string, names: ReadonlySet<string>): LinkEnd {
  const m = /^([^:\s]+):([^:\s/]{1,15})$/.exec(text(node, path));
  const name = m?.[1];
  const dev = m?.[2];
  if (name === undefined || dev === undefined)
    throw new Fault(node, path, "an endpoint is NODE:INTERFACE, the interface at most 15 characters");
  if (!names.has(name))
    throw new Fault(node, path, `there is no node '${name}'; nodes are ${[...names].join(", ")}`);
  return { node: name, dev };
}

function decode(root: YamlNode | null, directory: string): Topology {
  const top = fields(root, "", ["name", "topology"]);
  const name = text(top.get("name")?.value, "name");
  const topology = fields(top.get("topology")?.value, "topology", ["defaults", "nodes", "links"]);
  const defaults = decodeSettings(topology.get("defaults")?.value, "topology.defaults", directory);
  const nodes: TopologyNode[] = [];
  for (const [node, { key, value }] of fields(topology.get("nodes")?.value, "topology.nodes", undefined)) {
    const path = `topology.nodes.${node}`;
    if (!/^[A-Za-z0-9][A-Za-z0-9-]{0,62}$/.test(node))
      throw new Fault(key, path, "a node's name is its host name: letters, digits and hyphens");
    const own = decodeSettings(value, path, directory);
    if (own.kind === undefined && defaults.kind === undefined)
      throw new Fault(key, path, "has no kind, and neither has topology.defaults; 'kind: linux' is meant");
    nodes.push({
      name: node,
      binds: [...defaults.binds, ...own.binds],
      exec: [...defaults.exec, ...own.exec],
      env: { ...defaults.env, ...own.env },
      sysctls: { ...defaults.sysctls, ...own.sysctls },
    });
  }
  if (nodes.length === 0) throw new Fault(root, "topology.nodes", "has no node");
  const names = new Set(nodes.map((n) => n.name));
  const taken = new Set<string>();
  const links = list(topology.get("links")?.value, "topology.links").map((link, i): TopologyLink => {
    const path = `topology.links[${i}]`;
    const f = fields(link, path, ["endpoints", "mtu"]);
    const ends = list(f.get("endpoints")?.value, `${path}.endpoints`);
    const [one, two, ...rest] = ends;
    if (one === undefined || two === undefined || rest.length > 0)
      throw new Fault(link, path, "a link has exactly two endpoints");
    const both = [decodeEnd(one, path, names), decodeEnd(two, path, names)] as const;
    for (const end of both) {
      const id = `${end.node}:${end.dev}`;
      if (taken.has(id)) throw new Fault(link, path, `${id} is an endpoint already`);
      taken.add(id);
    }
    const mtu = f.get("mtu");
    if (mtu === undefined) return { ends: both, mtu: undefined };
    const value = Number(text(mtu.value, `${path}.mtu`));
    if (!Number.isInteger(value) || value < 68 || value > 65535)
      throw new Fault(mtu.value, `${path}.mtu`, "must be a whole number of bytes from 68 to 65535");
    return { ends: both, mtu: value };
  });
  return { name, nodes, links };
}

/**
 * Decodes the text of a topology file; relative bind sources are relative to the file, as in
 * containerlab.
 */
export function parseTopology(source: string, file: string, env: Env): Result<Topology, TopologyError> {
  const substituted = substitute(source, env);
  if (!substituted.ok) return err(new TopologyError(`${file}: ${substituted.error}`));
  const lines = new LineCounter();
  const document = parseDocument(substituted.value, { lineCounter: lines });
  const first = document.errors[0];
  if (first !== undefined) {
    const at = lines.linePos(first.pos[0]);
    return err(new TopologyError(`${file}:${at.line}:${at.col}: ${first.message.split("\n")[0] ?? ""}`));
  }
  try {
    return ok(decode(document.contents, dirname(resolve(file))));
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    const offset = e.where?.range?.[0];
    const at = offset === undefined ? undefined : lines.linePos(offset);
    const place = at === undefined ? file : `${file}:${at.line}:${at.col}`;
    return err(new TopologyError(`${place}: ${e.path === "" ? "" : `${e.path}: `}${e.message}`));
  }
}
