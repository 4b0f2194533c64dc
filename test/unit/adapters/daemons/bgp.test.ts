/** The BGP adapter on real sockets: dialling, callbacks that throw, a stalled event loop, silence, and a prompt stop. */
import { createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { BgpConnection, type BgpConnectionOptions } from "../../../../plugin/adapters/daemons/bgp.js";
import { Session } from "../../../../plugin/bgp/session.js";
import { address, type Family, prefix } from "../../../../plugin/net/address.js";
import { encodeKeepalive, Framer } from "../../../../plugin/wire/bgp/framer.js";
import { decodeNotification, describeNotification } from "../../../../plugin/wire/bgp/notification.js";
import { type AddPathMode, encodeOpen } from "../../../../plugin/wire/bgp/open.js";
import { attributes } from "../../bgp/support.js";

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const c of cleanups.splice(0).reverse()) await c();
});

async function until(what: string, condition: () => boolean, ms = 10_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A passive neighbour on a port of its own. */
class Listener {
  readonly messages: string[] = [];
  readonly from: (string | undefined)[] = [];
  socket: Socket | undefined;
  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async start(answer = true): Promise<Listener> {
    const server = createServer({ allowHalfOpen: false });
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const at = server.address();
    const listener = new Listener(server, typeof at === "object" && at !== null ? at.port : 0);
    server.on("connection", (socket) => {
      listener.socket = socket;
      listener.from.push(socket.remoteAddress);
      const framer = new Framer();
      socket.on("error", () => undefined);
      socket.on("data", (bytes) => {
        framer.push(bytes);
        for (let f = framer.next(); f !== undefined; f = framer.next()) {
          if (f.kind === "error") throw new Error(f.reason);
          const n = f.type === "NOTIFICATION" ? decodeNotification(f.body) : undefined;
          listener.messages.push(n?.ok ? describeNotification(n.value) : f.type);
          if (f.type === "OPEN" && answer) listener.open(3);
        }
      });
    });
    cleanups.push(() => listener.stop());
    return listener;
  }
  open(holdTime: number): void {
    const capabilities = {
      families: new Set<Family>([4]),
      fourOctetAs: true,
      routeRefresh: true,
      enhancedRouteRefresh: false,
      addPath: new Map<Family, AddPathMode>(),
      gracefulRestart: "none",
    } as const;
    this.socket?.write(
      encodeOpen({ as: 65000, holdTime, bgpIdentifier: address("10.255.0.1"), capabilities }),
    );
    this.socket?.write(encodeKeepalive());
  }
  stop(): Promise<void> {
    this.socket?.destroy();
    return new Promise((resolve) => {
      this.server.close(() => resolve());
    });
  }
}

function dial(port: number, more: Partial<BgpConnectionOptions> = {}) {
  const log: string[] = [];
  const session = new Session(
    {
      name: "test",
      localAs: 65000,
      remoteAs: 65000,
      routerId: address("127.0.0.2"),
      holdTime: 3,
      families: [4],
      addPathReceive: false,
      askEndOfRib: false,
      backoff: { minMs: 20, maxMs: 50 },
    },
    Math.random,
  );
  const connection = new BgpConnection({
    session,
    localAddress: address("127.0.0.2"),
    remoteAddress: address("127.0.0.1"),
    remotePort: port,
    onState: (s) => log.push(s.kind),
    onProblem: (p, text) => log.push(`${p.kind}: ${text}`),
    onInternalError: (e) => log.push(`bug: ${String(e)}`),
    ...more,
  });
  cleanups.push(() => connection.stop());
  connection.start();
  return { connection, log };
}

describe("BGP over TCP", () => {
  it("dials from its own address, comes up, and says Cease when it stops", async () => {
    const listener = await Listener.start();
    const { connection, log } = dial(listener.port);
    await until("established", () => log.includes("established"));
    connection.announce([{ prefix: prefix("10.20.0.0/16"), attributes: attributes() }]);
    await until("the route", () => listener.messages.filter((m) => m === "UPDATE").length === 2);
    await connection.stop("SIGTERM");
    await until(
      "Cease",
      () => listener.messages.at(-1) === 'Cease / Administrative Shutdown (6/2): "SIGTERM"',
    );
    expect(listener.from).toEqual(["127.0.0.2"]);
    expect(log).toEqual(["established", "down"]);
  });

  it("keeps dialling where nobody listens, and gets through when somebody does", async () => {
    const gone = await Listener.start();
    await gone.stop();
    const { log } = dial(gone.port);
    await until("two failures", () => log.length >= 2);
    expect(log[0]).toContain("connect-failed: cannot connect: connect ECONNREFUSED");
    expect(log[0]).toContain("from 127.0.0.2");
  });

  it("survives callbacks that throw", async () => {
    const listener = await Listener.start();
    const bugs: string[] = [];
    const { connection } = dial(listener.port, {
      onState: () => {
        throw new Error("bad listener");
      },
      onInternalError: (e) => {
        bugs.push(String(e));
        throw new Error("worse listener");
      },
    });
    await until("the exception", () => bugs.length === 1);
    await until("still up", () => listener.messages.includes("UPDATE"));
    expect(connection.session.stateName).toBe("Established");
    expect(bugs).toEqual(["Error: bad listener"]);
  });

  it("does not take a stalled event loop for a silent neighbour", async () => {
    const listener = await Listener.start();
    const { log } = dial(listener.port);
    await until("established", () => log.includes("established"));
    listener.socket?.write(encodeKeepalive());
    const end = Date.now() + 3300;
    while (Date.now() < end);
    await until(
      "the keepalive after the stall",
      () => listener.messages.filter((m) => m === "KEEPALIVE").length >= 2,
    );
    expect(log).toEqual(["established"]);
  });

  it("takes silence for silence", async () => {
    const listener = await Listener.start();
    const { log } = dial(listener.port);
    await until("down", () => log.includes("down"));
    expect(log[1]).toContain("hold-timer-expired");
    await until("told", () => listener.messages.includes("Hold Timer Expired (4/0)"));
  });

  it("stops promptly when the other end never closes", async () => {
    const listener = await Listener.start(false);
    const { connection } = dial(listener.port);
    await until("OPEN", () => listener.messages.includes("OPEN"));
    listener.socket?.pause();
    const began = Date.now();
    await connection.stop();
    expect(Date.now() - began).toBeLessThan(3000);
  });
});
