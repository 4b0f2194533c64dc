/** The kept connection, against servers that misbehave: a unix socket in a directory of its own, no privileges. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { birdClient } from "../../../../plugin/adapters/daemons/bird.js";
import { CommandConnection } from "../../../../plugin/adapters/daemons/vty.js";
import { PortError } from "../../../../plugin/driver/ports.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { err, ok } from "../../../../plugin/net/result.js";

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

type Lines = (line: string, socket: Socket) => void;

async function serve(onLine: Lines, onConnect: (socket: Socket) => void = () => {}) {
  const dir = mkdtempSync(join(tmpdir(), "shortcutd-socket-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "s");
  const sockets: Socket[] = [];
  const heard: string[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    let rest = "";
    socket.on("data", (d: Buffer) => {
      const lines = (rest + d.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        heard.push(line);
        onLine(line, socket);
      }
    });
    onConnect(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  cleanups.push(() => {
    for (const s of sockets) s.destroy();
    server.close();
  });
  return { path, sockets, heard };
}

/** Lines of text, of which `!` is no reply. */
function connection(path: string, more: { greeting?: boolean; opening?: string[]; timeoutMs?: number } = {}) {
  const c = new CommandConnection<string>({
    path,
    place: "test socket",
    timeoutMs: more.timeoutMs ?? 2_000,
    remedy: (code) => `remedy of ${code}`,
    protocol: {
      greeting: more.greeting ?? false,
      opening: more.opening ?? [],
      encode: (command) => new TextEncoder().encode(`${command}\n`),
      decoder: () => {
        let rest = "";
        return {
          push: (bytes) => {
            const lines = (rest + new TextDecoder().decode(bytes)).split("\n");
            rest = lines.pop() ?? "";
            return lines.includes("!") ? err("not a reply") : ok(lines);
          },
        };
      },
    },
  });
  cleanups.push(() => c.close());
  return c;
}

const failure = async (p: Promise<unknown>): Promise<PortError> => {
  const e = await p.then(
    () => undefined,
    (x: unknown) => x,
  );
  if (!(e instanceof PortError)) throw new Error(`no PortError: ${String(e)}`);
  return e;
};

describe("the kept connection", () => {
  it("asks one command at a time, in order, on one connection, after greeting and opening", async () => {
    let busy = 0;
    const s = await serve(
      (line, socket) => {
        busy++;
        setImmediate(() => {
          if (line !== "open") expect(busy).toBe(1);
          busy--;
          socket.write(`re ${line}\n`);
        });
      },
      (socket) => socket.write("hello\n"),
    );
    const c = connection(s.path, { greeting: true, opening: ["open"] });
    expect(await c.ask("first")).toBe("re first");
    expect(await Promise.all(["a", "b", "c"].map((x) => c.ask(x)))).toEqual(["re a", "re b", "re c"]);
    expect(s.sockets).toHaveLength(1);
    expect(s.heard).toEqual(["open", "first", "a", "b", "c"]);
  });

  it("asks once more when a kept connection turns out to be dead, and not twice", async () => {
    let left = 1;
    const s = await serve((line, socket) => {
      if (line === "fatal") socket.destroy();
      else if (left-- > 0) socket.write(`re ${line}\n`);
      else if (s.sockets.length === 1) socket.destroy();
      else socket.write(`again ${line}\n`);
    });
    const c = connection(s.path);
    expect(await c.ask("a")).toBe("re a");
    expect(await c.ask("b")).toBe("again b");
    expect(s.heard).toEqual(["a", "b", "b"]);
    const e = await failure(c.ask("fatal"));
    expect(e.code).toBe("ECONNRESET");
    expect(s.heard.filter((l) => l === "fatal")).toHaveLength(2);
  });

  it("does not ask again what was half answered", async () => {
    const s = await serve((line, socket) => {
      if (line === "a") socket.write("re a\n");
      else socket.write("half", () => socket.destroy());
    });
    const c = connection(s.path);
    await c.ask("a");
    expect((await failure(c.ask("b"))).code).toBe("ECONNRESET");
    expect(s.heard).toEqual(["a", "b"]);
  });

  it("ends a connection that is out of step, fails what waits, and starts afresh", async () => {
    const s = await serve((line, socket) => socket.write(line === "bad" ? "!\n" : `re ${line}\n`));
    const c = connection(s.path);
    const [bad, behind] = await Promise.all([failure(c.ask("bad")), failure(c.ask("behind"))]);
    expect(bad).toMatchObject({ place: "test socket", code: "EPROTO", remedy: "remedy of EPROTO" });
    expect(bad.problem).toBe("not a reply");
    expect(behind.code).toBe("EPROTO");
    expect(await c.ask("good")).toBe("re good");
    expect(s.heard).toEqual(["bad", "good"]);
  });

  it("takes an unasked reply for a stream out of step, without an exception", async () => {
    const s = await serve((line, socket) => socket.write(`re ${line}\nunasked\n`));
    const c = connection(s.path);
    expect(await c.ask("a")).toBe("re a");
    // Whatever came too much is not the next command's answer.
    expect(await c.ask("b")).toBe("re b");
    expect(s.sockets).toHaveLength(2);
    const waiting = await Promise.allSettled([c.ask("c"), c.ask("d")]);
    expect(waiting.map((w) => (w.status === "fulfilled" ? w.value : "rejected"))).toEqual([
      "re c",
      "rejected",
    ]);
  });

  it("costs one deadline for all when nobody answers; a late answer reaches nobody", async () => {
    let late = false;
    const s = await serve((line, socket) => {
      if (line === "slow")
        setTimeout(() => {
          late = true;
          socket.write("late\n");
        }, 350);
      else socket.write(`re ${line}\n`);
    });
    const c = connection(s.path, { timeoutMs: 200 });
    const all = await Promise.all([failure(c.ask("slow")), failure(c.ask("x")), failure(c.ask("y"))]);
    // one deadline, not one after another: the late answer has not even been sent
    expect(late).toBe(false);
    expect(all.map((e) => e.code)).toEqual(["ETIMEDOUT", "ETIMEDOUT", "ETIMEDOUT"]);
    expect(await c.ask("z")).toBe("re z");
  });

  it("rejects with the code and its remedy when nobody is there, and when it was closed", async () => {
    const c = connection(join(tmpdir(), "shortcutd-nobody", "s"));
    expect(await failure(c.ask("x"))).toMatchObject({ code: "ENOENT", remedy: "remedy of ENOENT" });
    const long = connection(`/tmp/${"x".repeat(300)}`);
    expect((await failure(long.ask("x"))).place).toBe("test socket");
    const s = await serve(() => undefined);
    const closing = connection(s.path);
    const waiting = failure(closing.ask("x"));
    await closing.close();
    expect((await waiting).code).toBe("ECANCELED");
    expect((await failure(closing.ask("y"))).code).toBe("ECANCELED");
  });

  it("bounds what waits", async () => {
    const s = await serve(() => undefined);
    const c = connection(s.path);
    const asked = Array.from({ length: 1_030 }, () => failure(c.ask("x")));
    expect((await asked[1_029])?.code).toBe("EBUSY");
    await c.close();
    const codes = (await Promise.all(asked)).map((e) => e.code);
    expect(codes.filter((x) => x === "ECANCELED")).toHaveLength(1_025);
  });
});

describe("the BIRD client", () => {
  it("says that something else answers at the socket", async () => {
    const s = await serve(
      (_, socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"),
      (socket) => socket.write("220 mail.example ESMTP\r\n"),
    );
    const client = birdClient({ socket: s.path });
    cleanups.push(() => client.close());
    const e = await failure(client.explain(prefix("10.3.0.0/24"), address("198.18.0.1")));
    expect(e.message).toContain(s.path);
    expect(e.message).toContain("not a line of BIRD's control protocol");
    expect(e.remedy).toContain("is this BIRD's control socket");
  });

  it("asks for restricted access before anything else", async () => {
    const s = await serve(
      (line, socket) =>
        socket.write(line === "restrict" ? "0016 Access restricted\n" : "9001 syntax error\n"),
      (socket) => socket.write("0001 BIRD 2.0.12 ready.\n"),
    );
    const client = birdClient({ socket: s.path });
    cleanups.push(() => client.close());
    await failure(client.explain(prefix("10.3.0.0/24"), address("198.18.0.1")));
    expect(s.heard[0]).toBe("restrict");
  });
});
