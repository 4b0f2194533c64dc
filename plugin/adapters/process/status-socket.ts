/**
 * The status socket: one JSON request a line, one JSON response a line, over a unix socket of mode 0660. It is also the lock of one shortcutd per
 * overlay: a second one finds that it can connect.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { PortError } from "../../driver/ports.js";

const MAX_LINE = 4096;

/** Whether a process answers at the path. */
export const socketAnswers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const s = connect(path);
    s.once("connect", () => {
      s.destroy();
      resolve(true);
    });
    s.once("error", () => resolve(false));
  });

export interface StatusServer {
  close(): Promise<void>;
}

/**
 * Listens at `path`. @throws PortError when another shortcutd listens there, or when the path cannot be used.
 * `handle` gets a line and returns one.
 */
export async function serveStatus(path: string, handle: (line: string) => string): Promise<StatusServer> {
  if (await socketAnswers(path))
    throw new PortError(
      `status socket ${path}`,
      "another shortcutd on this router answers there",
      "stop it first, or give this one another control.socket and interfaces",
      "EADDRINUSE",
    );
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    let buffer = "";
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      buffer += text;
      for (let i = buffer.indexOf("\n"); i >= 0; i = buffer.indexOf("\n")) {
        const line = buffer.slice(0, i);
        buffer = buffer.slice(i + 1);
        socket.write(`${handle(line)}\n`);
      }
      if (buffer.length > MAX_LINE) socket.destroy();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  });
  try {
    const made = mkdirSync(dirname(path), { recursive: true });
    // whatever the umask: members of the socket's group pass it
    if (made !== undefined) chmodSync(dirname(path), 0o755);
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o660);
  } catch (e) {
    throw new PortError(
      `status socket ${path}`,
      e instanceof Error ? e.message : String(e),
      "is the directory writable?",
    );
  }
  server.on("error", () => {});
  return {
    close: () =>
      new Promise((resolve) => {
        for (const s of sockets) s.destroy();
        server.close(() => {
          rmSync(path, { force: true });
          resolve();
        });
      }),
  };
}

/** One request, one response. @throws PortError when there is no answer. */
export function askStatus(path: string, request: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const fail = (problem: string) =>
      reject(
        new PortError(
          `status socket ${path}`,
          problem,
          "is shortcutd running? may you read the socket (mode 0660)?",
        ),
      );
    const s = connect(path);
    let text = "";
    s.setEncoding("utf8");
    s.setTimeout(5_000, () => {
      s.destroy();
      fail("no answer within 5 s");
    });
    s.once("error", (e) => fail(e.message));
    s.on("connect", () => s.write(`${JSON.stringify(request)}\n`));
    s.on("data", (chunk: string) => {
      text += chunk;
      const end = text.indexOf("\n");
      if (end < 0) return;
      s.destroy();
      try {
        resolve(JSON.parse(text.slice(0, end)));
      } catch {
        fail("the answer is not JSON");
      }
    });
    s.on("end", () => fail("closed without an answer"));
  });
}
