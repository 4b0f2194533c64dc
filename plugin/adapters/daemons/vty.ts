/**
 * One kept connection to a daemon's command socket, BIRD's or FRR's: commands wait in a queue and run one at a time, each with a
 * deadline. The connection is made when the first command needs it and again after it ended; a command that met a connection
 * which had died while it was idle (the daemon was restarted) is asked once more, which is safe because all commands here only
 * read. After a deadline or a malformed reply the stream is out of step: the connection ends, and what waited fails with it, so
 * that a hung daemon costs one deadline and not one per command. Errors reject the caller's promise and nothing else.
 *
 * States: idle (no socket, or a socket and no command) -> busy (one command) -> idle; closed for good by `close`.
 */
import { connect, type Socket } from "node:net";
import { PortError } from "../../driver/ports.js";
import type { Result } from "../../net/result.js";

export interface CommandProtocol<R> {
  /** A fresh decoder for each connection. */
  readonly decoder: () => { push(bytes: Uint8Array): Result<readonly R[], string> };
  readonly encode: (command: string) => Uint8Array;
  /** The daemon speaks first. */
  readonly greeting: boolean;
  /** Sent first on every connection; the replies are dropped. */
  readonly opening: readonly string[];
}

export interface CommandOptions<R> {
  readonly path: string;
  /** For errors: `BIRD control socket /run/bird/bird.ctl`. */
  readonly place: string;
  readonly protocol: CommandProtocol<R>;
  /** Milliseconds for one command, connecting included. */
  readonly timeoutMs: number;
  /** Remedies for an operator, by error code: `ENOENT`, `ECONNREFUSED`, `EACCES`, `ETIMEDOUT`, `EPROTO`, `ECONNRESET`. */
  readonly remedy: (code: string) => string;
}

interface Waiting<R> {
  readonly command: string;
  readonly resolve: (reply: R) => void;
  readonly reject: (error: PortError) => void;
  retried: boolean;
}

interface Running<R> extends Waiting<R> {
  /** Puts the deadline off. */
  readonly disarm: () => void;
  /** The connection existed before this command. */
  readonly kept: boolean;
  /** Replies to come before the one of the command: greeting and opening. */
  skip: number;
  heard: boolean;
}

const MAX_WAITING = 1_024;

/** The part of the system that a connection uses: a socket and a deadline. */
export interface CommandSystem {
  connect(path: string): Socket;
  /** Calls `what` after a time, unless the returned function is called before. */
  after(ms: number, what: () => void): () => void;
}

const system: CommandSystem = {
  connect: (path) => connect({ path }),
  after: (ms, what) => {
    const timer = setTimeout(what, ms);
    return () => clearTimeout(timer);
  },
};

export class CommandConnection<R> {
  private socket: Socket | undefined;
  private readonly queue: Waiting<R>[] = [];
  private running: Running<R> | undefined;
  private closed = false;

  constructor(
    private readonly options: CommandOptions<R>,
    private readonly on: CommandSystem = system,
  ) {}

  /** Resolves with the reply, whatever it says. @throws PortError without a reply. */
  ask(command: string): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(this.error("ECANCELED", "the client was closed"));
      if (this.queue.length >= MAX_WAITING)
        return reject(this.error("EBUSY", `${MAX_WAITING} commands are waiting`));
      this.queue.push({ command, resolve, reject, retried: false });
      this.next();
    });
  }

  /** Ends the connection; what waits is rejected. Resolves when the socket is closed. */
  async close(): Promise<void> {
    this.closed = true;
    const { socket } = this;
    const gone =
      socket === undefined || socket.closed
        ? undefined
        : new Promise<void>((resolve) => {
            socket.once("close", () => resolve());
          });
    this.end(this.error("ECANCELED", "the client was closed"));
    await gone;
  }

  private error(code: string, problem: string): PortError {
    return new PortError(this.options.place, problem, this.options.remedy(code), code);
  }

  private next(): void {
    if (this.running !== undefined) return;
    const waiting = this.queue.shift();
    if (waiting === undefined) return;
    const { protocol, timeoutMs } = this.options;
    const kept = this.socket !== undefined;
    const skip = kept ? 0 : (protocol.greeting ? 1 : 0) + protocol.opening.length;
    const disarm = this.on.after(timeoutMs, () =>
      this.end(this.error("ETIMEDOUT", `no reply to '${waiting.command}' within ${timeoutMs} ms`)),
    );
    this.running = { ...waiting, disarm, kept, skip, heard: false };
    try {
      const bytes = protocol.encode(waiting.command);
      const socket = this.socket ?? this.open();
      socket.write(bytes);
    } catch (e) {
      this.end(this.error("EINVAL", e instanceof Error ? e.message : String(e)));
    }
  }

  private open(): Socket {
    const { path, protocol } = this.options;
    const socket = this.on.connect(path);
    const decoder = protocol.decoder();
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => {
      if (socket !== this.socket) return;
      const decoded = decoder.push(bytes);
      if (!decoded.ok) return this.end(this.error("EPROTO", decoded.error));
      if (this.running !== undefined) this.running.heard = true;
      for (const reply of decoded.value) this.replied(reply);
      // only now, so that what came too much is not taken for the next command's reply
      this.next();
    });
    socket.on("error", (e: NodeJS.ErrnoException) => this.lost(socket, e.code ?? "EIO", e.message));
    socket.on("close", () => this.lost(socket, "ECONNRESET", "the daemon closed the connection"));
    for (const command of protocol.opening) socket.write(protocol.encode(command));
    return socket;
  }

  private replied(reply: R): void {
    const { running } = this;
    if (running === undefined) {
      this.end(this.error("EPROTO", "a reply to no command"));
      return;
    }
    if (running.skip > 0) {
      running.skip--;
      return;
    }
    running.disarm();
    this.running = undefined;
    running.resolve(reply);
  }

  private lost(socket: Socket, code: string, problem: string): void {
    if (socket !== this.socket) return;
    const { running } = this;
    if (running?.kept && !running.heard && !running.retried) {
      this.socket = undefined;
      socket.destroy();
      running.disarm();
      this.running = undefined;
      const { command, resolve, reject } = running;
      this.queue.unshift({ command, resolve, reject, retried: true });
      this.next();
      return;
    }
    if (running === undefined) {
      this.socket = undefined;
      socket.destroy();
      return;
    }
    this.end(this.error(code, problem));
  }

  /** Ends the connection and fails everything that runs or waits. */
  private end(error: PortError): void {
    const { socket, running } = this;
    this.socket = undefined;
    this.running = undefined;
    socket?.destroy();
    if (running !== undefined) {
      running.disarm();
      running.reject(error);
    }
    for (const w of this.queue.splice(0)) w.reject(error);
  }
}
