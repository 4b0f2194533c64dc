/**
 * Target: the connection that is kept to BIRD's control socket. The input is a program: commands, bytes of the
 * daemon, ends and errors of the socket, deadlines. Each command is answered or refused, and only once.
 */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { birdProtocol } from "../../../plugin/adapters/daemons/bird.js";
import { CommandConnection, type CommandSystem } from "../../../plugin/adapters/daemons/vty.js";
import { PortError } from "../../../plugin/driver/ports.js";
import type { BirdReply } from "../../../plugin/wire/bird/reply.js";
import { holds, Reader, type Target, utf8 } from "../target.js";

class FakeSocket extends EventEmitter {
  closed = false;
  written = 0;
  write(bytes: Uint8Array): boolean {
    holds("written to a closed socket", !this.closed);
    this.written += bytes.length;
    return true;
  }
  destroy(): this {
    if (this.closed) return this;
    this.closed = true;
    queueMicrotask(() => this.emit("close"));
    return this;
  }
}

class FakeSystem implements CommandSystem {
  readonly sockets: FakeSocket[] = [];
  private readonly timers = new Set<() => void>();

  connect(): Socket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket as unknown as Socket;
  }
  after(_ms: number, what: () => void): () => void {
    const timer = (): void => what();
    this.timers.add(timer);
    return () => void this.timers.delete(timer);
  }
  /** The oldest deadline passes. */
  expire(): void {
    const [timer] = this.timers;
    if (timer === undefined) return;
    this.timers.delete(timer);
    timer();
  }
  get armed(): number {
    return this.timers.size;
  }
}

interface Asked {
  settled: number;
}

const REPLIES: readonly [string, ...string[]] = [
  "0001 BIRD 2.0.12 ready.\n",
  "0016 Access restricted\n",
  "1000-BIRD 2.0.12\n1011-Router ID is 10.255.0.1\n0013 Daemon is up and running\n",
  "9001 syntax error\n",
  "+asynchronous\n",
  "1000-half",
];

async function play(input: Uint8Array): Promise<void> {
  const r = new Reader(input);
  const system = new FakeSystem();
  const connection = new CommandConnection<BirdReply>(
    { path: "/run/bird.ctl", place: "BIRD", protocol: birdProtocol, timeoutMs: 2000, remedy: () => "" },
    system,
  );
  const asked: Asked[] = [];
  while (r.left > 0) {
    const socket =
      system.sockets[
        r.below(4) === 0 ? r.below(Math.max(1, system.sockets.length)) : system.sockets.length - 1
      ];
    switch (r.below(9)) {
      case 0:
      case 1: {
        const one: Asked = { settled: 0 };
        asked.push(one);
        connection
          .ask("show status")
          .then(
            () => one.settled++,
            (e: unknown) => {
              one.settled++;
              holds(`an untyped error: ${String(e)}`, e instanceof PortError);
            },
          )
          .catch((e: unknown) => failures.push(e));
        break;
      }
      case 2:
      case 3:
      case 4:
        // a destroyed socket delivers nothing
        if (socket?.closed === false) socket.emit("data", Buffer.from(r.of(REPLIES)));
        break;
      case 5:
        if (socket?.closed === false) socket.emit("data", Buffer.from(r.take(r.byte())));
        break;
      case 6:
        if (socket?.closed === false) {
          socket.emit(
            "error",
            Object.assign(new Error("broken"), { code: r.flag() ? "EPIPE" : "ECONNREFUSED" }),
          );
          socket.destroy();
        }
        break;
      case 7:
        if (r.flag()) socket?.destroy();
        else system.expire();
        break;
      default:
        await Promise.resolve();
    }
    holds(`${system.armed} deadlines`, system.armed <= 1);
    holds(
      `${system.sockets.filter((s) => !s.closed).length} open sockets`,
      system.sockets.filter((s) => !s.closed).length <= 1,
    );
  }
  // a deadline for each command that still runs: none waits for ever
  for (let i = 0; i <= asked.length && system.armed > 0; i++) system.expire();
  await connection.close();
  for (let i = 0; i < 8; i++) await Promise.resolve();
  for (const a of asked) holds(`a command was settled ${a.settled} times`, a.settled === 1);
  holds("a deadline is left", system.armed === 0);
  holds(
    "a socket is left",
    system.sockets.every((s) => s.closed),
  );
  const [failure] = failures.splice(0);
  if (failure !== undefined) throw failure;
}

/** What a handler of a promise has found. */
const failures: unknown[] = [];

const birdConnection: Target = {
  name: "bird-connection",
  longest: 256,
  seeds: () => [
    Uint8Array.of(1, 0, 1, 2, 0, 1, 2, 1, 1, 2, 2, 1, 0, 1, 2, 2, 1, 7, 1, 1, 0),
    Uint8Array.of(1, 0, 1, 0, 1, 2, 0, 1, 2, 1, 1, 2, 2, 1, 8, 1, 7, 0, 1, 6, 1),
    Uint8Array.from([1, 0, 1, 2, 0, 1, 5, 22, ...utf8("0016 Access restricted\n"), 1, 5, 3, 1, 2, 3]),
  ],
  run: play,
};

export const connectionTargets: readonly Target[] = [birdConnection];
