#!/usr/bin/env node
/**
 * shortcutd: the command. It alone reads arguments, environment and files; it puts adapters behind the driver's ports and ends with
 * a code that says what went wrong: 0 stopped in order, 1 failed, 2 bad configuration, 3 the daemon lacks what bird-config/ or frr-config/ provide.
 */
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { birdClient } from "./adapters/daemons/bird.js";
import { frrClient } from "./adapters/daemons/frr.js";
import { bgpAdapter } from "./adapters/daemons/speaker.js";
import { hostAdapter } from "./adapters/linux/host.js";
import { routeAdapter } from "./adapters/linux/routes.js";
import { sourceGuardAdapter } from "./adapters/linux/sources.js";
import { trafficAdapter } from "./adapters/linux/traffic.js";
import { nodeClock } from "./adapters/process/clock.js";
import { logAdapter } from "./adapters/process/log.js";
import { serveStatus } from "./adapters/process/status-socket.js";
import { datagramAdapter } from "./adapters/sockets/datagram.js";
import { pingAdapter } from "./adapters/sockets/ping.js";
import { probeAdapter } from "./adapters/sockets/probes.js";
import { wireguardAdapter } from "./adapters/wireguard/index.js";
import { loadOrCreatePrivateKey, publicKeyOf, sharedSecret } from "./adapters/wireguard/keys.js";
import { type Config, formatConfigError, parseConfig } from "./config/config.js";
import { Driver, type Router } from "./driver/driver.js";
import { ConfigMismatch, type Overlay, readOverlay } from "./driver/overlay.js";
import { type DaemonPort, type LogPort, PortError } from "./driver/ports.js";
import type { PrivateKey } from "./net/key.js";
import { answer, decodeRequest, type Response } from "./status/report.js";
import { id64FromBytes } from "./wire/control/codec.js";

const EXIT = { failed: 1, config: 2, daemon: 3 } as const;

class Fatal extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

function readConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (e) {
    throw new Fatal(EXIT.config, `${file}: ${e instanceof Error ? e.message : String(e)}`);
  }
  const parsed = parseConfig(text);
  if (parsed.ok) return parsed.value;
  throw new Fatal(EXIT.config, parsed.error.map((e) => formatConfigError(file, e)).join("\n"));
}

function daemonOf(config: Config): DaemonPort | undefined {
  const d = config.daemon;
  if (d === undefined) return undefined;
  return d.kind === "bird"
    ? birdClient({ socket: d.socket })
    : frrClient({ directory: d.socket, offersAs: d.offersAs, vrf: d.vrf });
}

/** Everything that the daemon's configuration lacks, or nothing. */
async function checkDaemon(config: Config, daemon: DaemonPort, log: (line: string) => void): Promise<void> {
  const d = config.daemon;
  if (d === undefined) return;
  const { version, findings } = await daemon.check({
    overlay: config.overlay,
    blackboardTable: d.table,
    aliasPool4: config.aliases[4],
    aliasPool6: config.aliases[6],
    offersSource: d.offers,
    feedSource: d.feed,
    localAs: d.as,
    vrf: d.vrf,
  });
  const errors = findings.filter((f) => f.severity === "error");
  for (const f of findings) log(`${d.kind} ${version}: ${f.severity}: ${f.problem}\n  remedy: ${f.remedy}`);
  if (errors.length > 0)
    throw new Fatal(
      EXIT.daemon,
      `${d.kind} ${version} lacks ${errors.length} thing(s) that shortcutd needs; nothing was changed`,
    );
}

function routerOf(overlay: Overlay, privateKey: PrivateKey): Router {
  return {
    self: {
      address: overlay.self,
      publicKey: publicKeyOf(privateKey),
      bootId: id64FromBytes(randomBytes(8)),
    },
    privateKey,
    overlayAddresses: overlay.addresses,
    overlayMtu: overlay.mtu,
    crypto: {
      shared: (theirs) => sharedSecret(privateKey, theirs),
      hmac: (key, data) => createHmac("sha256", key).update(data).digest(),
    },
    randomBytes,
  };
}

async function run(config: Config, log: LogPort): Promise<void> {
  const clock = nodeClock();
  const routes = routeAdapter({
    onError: (e) => log.warn(e.message),
    onOverrun: () => log.warn("netlink overrun: reading the tables again"),
  });
  let driver: Driver | undefined;
  const starting: Response = { ok: false, error: "shortcutd is starting" };
  const status = await serveStatus(config.control.socket, (line) => {
    const request = decodeRequest(line);
    if ("error" in request) return JSON.stringify({ ok: false, error: request.error });
    return JSON.stringify(driver === undefined ? starting : answer(driver, clock.now(), request));
  });
  const daemon = daemonOf(config);
  try {
    if (daemon !== undefined) await checkDaemon(config, daemon, (line) => log.warn(line));
    const overlay = await readOverlay(config, routes);
    const { key, created } = await loadOrCreatePrivateKey(config.direct.key);
    if (created) log.info("generated a private key", { file: config.direct.key });
    driver = new Driver(config, routerOf(overlay, key), {
      clock,
      host: hostAdapter(),
      routes,
      wireguard: wireguardAdapter(),
      traffic: trafficAdapter(),
      sources: sourceGuardAdapter(config.control.table),
      datagrams: datagramAdapter(),
      probes: probeAdapter(new URL("./adapters/sockets/probe-worker.js", import.meta.url)),
      pings: pingAdapter(),
      bgp: bgpAdapter(Math.random),
      daemon,
      log,
    });
    const stopped = stopSignal();
    await driver.start();
    await stopped;
    log.info("stopping");
    await driver.stop();
    log.info("stopped");
  } finally {
    await daemon?.close();
    await status.close();
  }
}

/** Resolves at the first SIGTERM or SIGINT; the second ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = () => {
      if (asked) process.exit(EXIT.failed);
      asked = true;
      resolve();
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}

async function guarded(task: () => Promise<void>, report: (line: string) => void): Promise<void> {
  try {
    await task();
    process.exitCode = 0;
  } catch (e) {
    report(
      e instanceof Fatal || e instanceof PortError
        ? e.message
        : e instanceof Error
          ? (e.stack ?? e.message)
          : String(e),
    );
    process.exitCode = e instanceof Fatal ? e.code : e instanceof ConfigMismatch ? EXIT.config : EXIT.failed;
  }
}

const toStderr = (line: string): void => void process.stderr.write(`shortcutd: ${line}\n`);

const program = new Command("shortcutd")
  .description("Direct spoke-to-spoke WireGuard paths that BIRD or FRR decides on.")
  .showHelpAfterError();

program
  .command("run")
  .description("run in the foreground until SIGTERM or SIGINT")
  .requiredOption("-c, --config <file>", "configuration file")
  .action((options: { config: string }) =>
    guarded(async () => {
      const config = readConfig(options.config);
      const log = logAdapter(config.logLevel, process.env["JOURNAL_STREAM"] !== undefined);
      await run(config, log);
    }, toStderr).then(() => process.exit()),
  );

program
  .command("check")
  .description("validate a configuration file, and with --daemon what the routing daemon has")
  .requiredOption("-c, --config <file>", "configuration file")
  .option("--daemon", "ask the running BIRD or FRR too")
  .action((options: { config: string; daemon?: boolean }) =>
    guarded(async () => {
      const config = readConfig(options.config);
      process.stdout.write(`${options.config}: valid, ${config.role} on ${config.overlay}\n`);
      const daemon = options.daemon === true ? daemonOf(config) : undefined;
      if (daemon === undefined) return;
      try {
        await checkDaemon(config, daemon, (line) => void process.stdout.write(`${line}\n`));
        process.stdout.write(`${daemon.kind}: has what shortcutd needs\n`);
      } finally {
        await daemon.close();
      }
    }, toStderr),
  );

await program.parseAsync();
