/**
 * The status socket: one JSON request a line, one JSON response a line, over a unix socket of mode 0660. It is also the lock of one shortcutd per
 * overlay: a second one finds that it can connect. Clients are bounded in number, in what they send, and in what they leave unread.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { PortError } from "../../driver/ports.js";

/** Bounds of what clients can take; times in milliseconds. */
export interface StatusLimits {
  /** Bytes of a request. */
  readonly line: number;
  /** Connections at once: a further one takes the place of the oldest. */
  readonly connections: number;
  /** Requests of one connection. */
  readonly requests: number;
  /** Time in which a client sends a whole request, or reads an answer; and in which it is done. */
  readonly idle: number;
  readonly whole: number;
}

const LIMITS: StatusLimits = { line: 4096, connections: 16, requests: 64, idle: 10_000, whole: 60_000 };

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
 * Answers the lines of one client, in order. A further line is looked at when the answer before has been read, so that at most one
 * answer and one line wait in memory.
 */
function converse(socket: Socket, handle: (line: string) => string, limits: StatusLimits): void {
  let buffer = "";
  let requests = 0;
  const cut = (): void => void socket.destroy();
  const whole = setTimeout(cut, limits.whole);
  // not the socket's own timeout: bytes that wait to be read are no progress
  const idle = setTimeout(cut, limits.idle);
  const answer = (): void => {
    for (let i = buffer.indexOf("\n"); i >= 0; i = buffer.indexOf("\n")) {
      const line = buffer.slice(0, i);
      if (line.length > limits.line || ++requests > limits.requests) {
        socket.destroy();
        return;
      }
      buffer = buffer.slice(i + 1);
      idle.refresh();
      if (!socket.write(`${handle(line)}\n`)) {
        socket.pause();
        return;
      }
    }
    if (buffer.length > limits.line) socket.destroy();
    else socket.resume();
  };
  const guarded = (): void => {
    try {
      answer();
    } catch {
      socket.destroy();
    }
  };
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    buffer += text;
    guarded();
  });
  socket.on("drain", () => {
    idle.refresh();
    guarded();
  });
  socket.on("error", cut);
  socket.on("close", () => {
    clearTimeout(whole);
    clearTimeout(idle);
  });
}

/**
 * Listens at `path`. @throws PortError when another shortcutd listens there, or when the path cannot be used.
 * `handle` gets a line and returns one.
 */
export async function serveStatus(
  path: string,
  handle: (line: string) => string,
  limits: StatusLimits = LIMITS,
): Promise<StatusServer> {
  if (await socketAnswers(path))
    throw new PortError(
      `status socket ${path}`,
      "another shortcutd on this router answers there",
      "stop it first, or give this one another control.socket and interfaces",
      "EADDRINUSE",
    );
  /** In the order of their beginning. */
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    const [oldest] = sockets;
    if (oldest !== undefined && sockets.size >= limits.connections) {
      sockets.delete(oldest);
      oldest.destroy();
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    converse(socket, handle, limits);
  });
  try {
    const made = mkdirSync(dirname(path), { recursive: true });
    // whatever the umask: members of the socket's group pass it
    if (made !== undefined) chmodSync(dirname(path), 0o755);
    rmSync(path, { force: true });
    // nobody else may connect between its making and its mode
    const mask = process.umask(0o117);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(path, resolve);
      });
    } finally {
      process.umask(mask);
    }
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
