/** The status socket under clients that send too much, read too slowly, stay too long, or are too many. */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../../../../lab/runner/wait.js";
import {
  askStatus,
  type StatusLimits,
  type StatusServer,
  serveStatus,
} from "../../../../plugin/adapters/process/status-socket.js";

/** Without bounds of time: a test sets those that it is about. */
const LIMITS: StatusLimits = { line: 4096, connections: 4, requests: 64, idle: 3_600_000, whole: 3_600_000 };
const BIG = "x".repeat(1 << 20);

let dir: string;
let path: string;
let server: StatusServer | undefined;
let clients: Socket[];
let handled: string[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "status-"));
  path = join(dir, "control.sock");
  clients = [];
  handled = [];
});
afterEach(async () => {
  for (const c of clients) c.destroy();
  await server?.close();
  server = undefined;
  rmSync(dir, { recursive: true });
});

const serve = async (limits: Partial<StatusLimits> = {}, answer = (line: string) => line): Promise<void> => {
  server = await serveStatus(
    path,
    (line) => {
      handled.push(line);
      return answer(line);
    },
    { ...LIMITS, ...limits },
  );
};

interface Client {
  readonly socket: Socket;
  readonly state: { text: string; closed: boolean };
}
const client = async (): Promise<Client> => {
  const socket = connect(path);
  clients.push(socket);
  const state = { text: "", closed: false };
  socket.setEncoding("utf8");
  socket.on("data", (t: string) => {
    state.text += t;
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    state.closed = true;
  });
  await new Promise<void>((resolve) => {
    socket.once("connect", resolve);
  });
  return { socket, state };
};
const closes = ({ state }: Client): Promise<boolean> =>
  until("it is closed", 30_000, async () => state.closed);

describe("a client", () => {
  it("is answered line by line, however its bytes arrive", async () => {
    await serve();
    const { socket, state } = await client();
    socket.write('{"a":1}\n{"b"');
    socket.write(":2}\n");
    await until("both answers", 30_000, async () => state.text === '{"a":1}\n{"b":2}\n');
    expect(await askStatus(path, { c: 3 })).toEqual({ c: 3 });
  });

  it("may connect only with the rights of the socket", async () => {
    const before = process.umask(0);
    await serve();
    expect(process.umask(before)).toBe(0);
    expect(statSync(path).mode & 0o777).toBe(0o660);
  });

  it("that sends a line without an end is cut off, and one line too long is not handled", async () => {
    await serve();
    const endless = await client();
    endless.socket.write("x".repeat(4097));
    await closes(endless);
    const long = await client();
    long.socket.write(`${"x".repeat(5000)}\n`);
    await closes(long);
    expect(handled).toEqual([]);
  });

  it("that asks without end is cut off", async () => {
    await serve();
    const c = await client();
    c.socket.write("{}\n".repeat(100));
    await closes(c);
    expect(handled).toHaveLength(64);
  });

  it("that does not read is cut off, and no more of its lines are looked at meanwhile", async () => {
    await serve({ idle: 500 }, () => BIG);
    const c = await client();
    c.socket.pause();
    c.socket.write("{}\n".repeat(60));
    // the server sees no progress; the client learns of the end when it writes
    await until("it is cut off", 30_000, async () => {
      c.socket.write("{}\n");
      return c.state.closed;
    });
    expect(handled.length).toBeLessThan(3);
  });

  it("that reads late gets everything, in order", async () => {
    await serve({}, (line) => `${line}${BIG}`);
    const c = await client();
    c.socket.pause();
    for (let i = 0; i < 5; i++) c.socket.write(`${i}\n`);
    await until("the first is handled", 30_000, async () => handled.length > 0);
    expect(handled.length).toBeLessThan(5);
    c.socket.resume();
    const all = [0, 1, 2, 3, 4].map((i) => `${i}${BIG}\n`).join("");
    await until("all answers", 30_000, async () => c.state.text.length === all.length);
    expect(c.state.text === all).toBe(true);
  });

  it("that says nothing, or stays, is cut off in time", async () => {
    await serve({ idle: 200 });
    await closes(await client());
    await server?.close();
    await serve({ whole: 400 });
    const c = await client();
    const timer = setInterval(() => c.socket.write("{}\n"), 50);
    await closes(c);
    clearInterval(timer);
  });

  it("beyond the number takes the place of the oldest, and is answered", async () => {
    await serve();
    const held = [await client(), await client(), await client(), await client()];
    expect(await askStatus(path, { d: 4 })).toEqual({ d: 4 });
    const [first, ...others] = held;
    if (first !== undefined) await closes(first);
    expect(others.map((c) => c.state.closed)).toEqual([false, false, false]);
  });

  it("whose request makes the handler fail is cut off, and others are answered", async () => {
    await serve({}, (line) => {
      if (line.includes("bad")) throw new Error("a fault");
      return line;
    });
    await expect(askStatus(path, { bad: 1 })).rejects.toThrow("closed without an answer");
    expect(await askStatus(path, { good: 1 })).toEqual({ good: 1 });
  });
});
