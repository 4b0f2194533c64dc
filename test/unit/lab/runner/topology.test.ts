/** The runner's reading of a containerlab file, and that our own file is one. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseTopology, splitWords, substitute } from "../../../../lab/runner/topology.js";
import { ok } from "../../../../plugin/net/result.js";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const triangle = path("../../../../lab/topologies/triangle.clab.yml");
const schema = process.env.CLAB_SCHEMA ?? path("../../../../../shared/clab.schema.json");

const small = `
name: small
topology:
  defaults: { kind: linux, env: { X: 1 } }
  nodes:
    a:
      binds: ["..:/run/lab:ro", "/tmp/k:/keys"]
      exec: ["ip address add 10.0.0.1/24 dev eth1", "sh -c 'echo a  b'"]
      sysctls: { net.ipv4.ip_forward: 1 }
    b:
  links:
    - endpoints: ["a:eth1", "b:eth1"]
      mtu: 1400
`;
const fault = (text: string): string => {
  const r = parseTopology(text, "/lab/t.yml", {});
  return r.ok ? "accepted" : r.error.message;
};

describe("lab/topologies/triangle.clab.yml", () => {
  it("is a topology that the runner brings up", () => {
    const r = parseTopology(readFileSync(triangle, "utf8"), triangle, { DAEMON_A: "frr" });
    if (!r.ok) throw r.error;
    expect(r.value.nodes.map((n) => n.name)).toEqual(["inet", "a", "b", "c", "ra", "host-a", "host-c"]);
    const exec = (name: string): string =>
      (r.value.nodes.find((n) => n.name === name)?.exec ?? []).map((w) => w.join(" ")).join("\n");
    expect(exec("a")).toContain("daemon.sh frr frr-config/examples/spoke.conf shortcut");
    expect(exec("c")).toContain("daemon.sh bird lab/topologies/triangle/c/bird.conf shortcut");
    for (const { source } of r.value.nodes.flatMap((n) => n.binds.slice(0, 1)))
      expect(existsSync(source)).toBe(true);
  });

  it.skipIf(!existsSync(schema))("is valid for containerlab's JSON schema", () => {
    const validate = new Ajv({ strict: false, allErrors: true }).compile(
      JSON.parse(readFileSync(schema, "utf8")) as object,
    );
    const text = substitute(readFileSync(triangle, "utf8"), {});
    if (!text.ok) throw new Error(text.error);
    const document: unknown = parse(text.value);
    validate(document);
    expect(validate.errors).toBeNull();
    // The schema can tell: an unknown key at the top is refused.
    expect(validate({ name: "x", topology: { nodes: {} }, surprise: 1 })).toBe(false);
  });
});

describe("parseTopology", () => {
  it("reads nodes, links, defaults, and resolves binds against the file", () => {
    const r = parseTopology(small, "/lab/t.yml", {});
    expect(r).toEqual(
      ok({
        name: "small",
        nodes: [
          {
            name: "a",
            binds: [
              { source: "/", target: "/run/lab", readOnly: true },
              { source: "/tmp/k", target: "/keys", readOnly: false },
            ],
            exec: [
              ["ip", "address", "add", "10.0.0.1/24", "dev", "eth1"],
              ["sh", "-c", "echo a  b"],
            ],
            env: { X: "1" },
            sysctls: { "net.ipv4.ip_forward": "1" },
          },
          { name: "b", binds: [], exec: [], env: { X: "1" }, sysctls: {} },
        ],
        links: [
          {
            ends: [
              { node: "a", dev: "eth1" },
              { node: "b", dev: "eth1" },
            ],
            mtu: 1400,
          },
        ],
      }),
    );
  });

  it.each([
    [
      "an unknown key of a node",
      small.replace("    b:", "    b: { cpu: 2 }"),
      /t\.yml:10:10: topology\.nodes\.b: .*'cpu'.*exec/,
    ],
    [
      "an unknown key at the top",
      `mgmt: {}\n${small}`,
      /t\.yml:1:1: this runner does not know the key 'mgmt'/,
    ],
    [
      "another kind",
      small.replace("    b:", "    b: { kind: nokia_srlinux }"),
      /topology\.nodes\.b\.kind: .*'linux' only/,
    ],
    ["no kind", small.replace("kind: linux, ", ""), /topology\.nodes\.a: has no kind/],
    [
      "a link to nowhere",
      small.replace('"b:eth1"', '"z:eth1"'),
      /t\.yml:12:\d+: topology\.links\[0\]: there is no node 'z'; nodes are a, b/,
    ],
    ["a link with one end", small.replace(', "b:eth1"', ""), /exactly two endpoints/],
    ["an interface used twice", small.replace('"b:eth1"', '"a:eth1"'), /a:eth1 is an endpoint already/],
    ["an interface name too long", small.replace("b:eth1", "b:abcdefghijklmnop"), /at most 15/],
    ["a bad MTU", small.replace("1400", "20"), /from 68 to 65535/],
    [
      "a sysctl of the host",
      small.replace("net.ipv4.ip_forward", "kernel.panic"),
      /it would change the host/,
    ],
    ["a relative bind target", small.replace(":/keys", ":keys"), /absolute path/],
    ["a bad bind option", small.replace("lab:ro", "lab:zz"), /SOURCE:TARGET:ro/],
    ["an open quote", small.replace("a  b'", "a  b"), /no closing '/],
    ["no nodes", "name: x\ntopology: {}", /topology\.nodes: has no node/],
    ["no name", "topology: { nodes: {} }", /name: must be a string/],
    ["broken YAML", "name: [", /t\.yml:1:\d+: /],
    ["an unset variable", `${small}# $NOPE`, /variable NOPE is not set/],
  ])("refuses %s, and says where", (_, text, message) => {
    expect(fault(text)).toMatch(message);
  });

  it("returns an error, and never throws, for any text", () => {
    fc.assert(
      fc.property(fc.nat(small.length - 1), fc.string({ maxLength: 8 }), (at, noise) => {
        const r = parseTopology(small.slice(0, at) + noise + small.slice(at + noise.length), "t.yml", {});
        expect(typeof r.ok).toBe("boolean");
      }),
      { numRuns: 500 },
    );
  });
});

const braced = (inside: string): string => `$\{${inside}}`;

describe("substitute", () => {
  it.each([
    [`$A-${braced("A")}`, "x-x"],
    [braced("B:=d"), "d"],
    [braced("B:-d/e"), "d/e"],
    [braced("E:-d"), "d"],
    [braced("E-d"), ""],
    [braced("A:=d"), "x"],
    ["5$ $5", "5$ $5"],
  ])("%s", (text, expected) => {
    expect(substitute(text, { A: "x", E: "" })).toEqual(ok(expected));
  });
});

describe("splitWords", () => {
  it.each([
    ["a  b\tc", ["a", "b", "c"]],
    ["sh -c 'a \"b\" c'", ["sh", "-c", 'a "b" c']],
    ['"a\\"b" c\\ d ""', ['a"b', "c d", ""]],
    ["", []],
  ])("%s", (line, expected) => {
    expect(splitWords(line)).toEqual(ok(expected));
  });

  it("undoes single quotes around any words", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (words) => {
        const line = words.map((w) => `'${w.replaceAll("'", "'\\''")}'`).join(" ");
        expect(splitWords(line)).toEqual(ok(words));
      }),
    );
  });
});
