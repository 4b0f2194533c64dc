#!/usr/bin/env node
/**
 * shortcutd: the command. It alone reads arguments, environment and files; it puts adapters behind the driver's ports and ends with
 * a code that says what went wrong: 0 stopped in order, 1 failed, 2 bad configuration, 3 the daemon lacks what bird-config/ or frr-config/ provide,
 * 4 the host lacks something.
 */
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { Command } from "commander";
import { birdClient } from "./adapters/daemons/bird.js";
import { frrClient } from "./adapters/daemons/frr.js";
import { readPassword } from "./adapters/daemons/password.js";
import { bgpAdapter } from "./adapters/daemons/speaker.js";
import { divertAdapter } from "./adapters/linux/divert.js";
import { hostAdapter } from "./adapters/linux/host.js";
import { hostProbes } from "./adapters/linux/host-probes.js";
import { routeAdapter } from "./adapters/linux/routes.js";
import { rulesetAdapter } from "./adapters/linux/ruleset.js";
import { sourceGuardAdapter } from "./adapters/linux/sources.js";
import { tableWatchAdapter } from "./adapters/linux/table-watch.js";
import { trafficAdapter } from "./adapters/linux/traffic.js";
import { nodeClock } from "./adapters/process/clock.js";
import { type LeveledLog, logAdapter } from "./adapters/process/log.js";
import { userOfDirectory } from "./adapters/process/secret-file.js";
import { stateFile } from "./adapters/process/state-file.js";
import { serveStatus } from "./adapters/process/status-socket.js";
import { datagramAdapter } from "./adapters/sockets/datagram.js";
import { pingAdapter } from "./adapters/sockets/ping.js";
import { probeAdapter } from "./adapters/sockets/probes.js";
import { wireguardAdapter } from "./adapters/wireguard/index.js";
import { loadOrCreatePrivateKey, publicKeyOf, sharedSecret } from "./adapters/wireguard/keys.js";
import { presharedKeyFiles } from "./adapters/wireguard/preshared-keys.js";
import {
  type Config,
  type ConfigError,
  type DaemonConfig,
  formatConfigError,
  parseConfig,
} from "./config/config.js";
import { Reloads } from "./config/reload.js";
import { Driver, type ThisRouter } from "./driver/driver.js";
import { type HostFinding, hostFindings, isFoundAtStart, readHost } from "./driver/host-check.js";
import { addressesForDaemon, ConfigMismatch, type Overlay, readOverlay } from "./driver/overlay.js";
import { type Clock, type DaemonPort, type LogPort, PortError, type RoutePort } from "./driver/ports.js";
import { STOP_PATIENCE, StopSignals } from "./driver/runtime/stop-signals.js";
import type { PrivateKey } from "./net/key.js";
import { toSeconds } from "./net/units.js";
import { answer, decodeRequest, type Response } from "./status/report.js";
import { id64FromBytes } from "./wire/control/codec.js";

const EXIT = { failed: 1, config: 2, daemon: 3, host: 4 } as const;

class Fatal extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Bytes; a configuration has some hundred. */
const LARGEST_FILE = 1 << 20;

function readText(file: string): string {
  try {
    const stat = statSync(file);
    if (!stat.isFile()) throw new Error("is not a regular file");
    if (stat.size > LARGEST_FILE) throw new Error(`is larger than ${LARGEST_FILE} bytes`);
    return readFileSync(file, "utf8");
  } catch (e) {
    throw new Fatal(EXIT.config, `${file}: ${e instanceof Error ? e.message : String(e)}`);
  }
}

const configErrors = (file: string, errors: readonly ConfigError[]): string =>
  errors.map((e) => formatConfigError(file, e)).join("\n");

function readConfig(file: string): { readonly config: Config; readonly text: string } {
  const text = readText(file);
  const parsed = parseConfig(text);
  if (parsed.ok) return { config: parsed.value, text };
  throw new Fatal(EXIT.config, configErrors(file, parsed.error));
}

function daemonOf(config: Config): DaemonPort | undefined {
  const d = config.daemon;
  if (d === undefined) return undefined;
  return d.kind === "bird"
    ? birdClient({ socket: d.socket })
    : frrClient({ directory: d.socket, offersAs: d.offersAs, vrf: d.vrf });
}

/** The password that the daemon's configuration should have; undefined: a file that is refused, which the host's check tells. */
function knownPassword({ password }: DaemonConfig): string | undefined {
  try {
    return readPassword(password, userOfDirectory(password.file)) ?? "";
  } catch (e) {
    if (e instanceof PortError) return undefined;
    throw e;
  }
}

/** Everything that the daemon's configuration lacks, or nothing. */
async function checkDaemon(
  config: Config,
  daemon: DaemonPort,
  routes: RoutePort,
  log: (line: string) => void,
): Promise<void> {
  const d = config.daemon;
  if (d === undefined) return;
  const { version, findings } = await daemon.check({
    overlay: config.overlay,
    overlayAddresses: addressesForDaemon(config, await routes.allAddresses()),
    hubs: config.hubs,
    direct: config.direct.interface,
    routerId: d.routerId,
    blackboardTable: d.table,
    aliasPool4: config.aliases[4],
    aliasPool6: config.aliases[6],
    offersSource: d.offers,
    feedSource: d.feed,
    localAs: d.as,
    password: knownPassword(d),
    vrf: d.vrf,
  });
  const errors = findings.filter((f) => f.severity === "error");
  for (const f of findings) log(`${d.kind} ${version}: ${f.severity}: ${f.problem}\n  remedy: ${f.remedy}`);
  if (errors.length > 0)
    throw new Fatal(
      EXIT.daemon,
      `${d.kind} ${version}: its configuration lacks ${errors.length} thing(s) that shortcutd needs; nothing was changed`,
    );
}

/** Everything that is wrong on the host, or nothing. `skips` leaves out what is found otherwise. */
async function checkHost(
  config: Config,
  routes: RoutePort,
  log: (line: string) => void,
  skips: (f: HostFinding) => boolean = () => false,
): Promise<void> {
  const facts = await readHost(config, {
    routes,
    wireguard: wireguardAdapter(),
    host: hostAdapter(),
    probes: hostProbes(),
  });
  const findings = hostFindings(config, facts).filter((f) => !skips(f));
  for (const f of findings) {
    const about = f.subject === "password" ? (config.daemon?.kind ?? "host") : "host";
    log(`${about}: ${f.severity}: ${f.place}: ${f.problem}\n  remedy: ${f.remedy}`);
  }
  const errors = findings.filter((f) => f.severity === "error");
  if (errors.length > 0)
    throw new Fatal(EXIT.host, `${errors.length} thing(s) on this host are wrong; nothing was changed`);
}

function routerOf(overlay: Overlay, privateKey: PrivateKey): ThisRouter {
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
      x25519: sharedSecret,
      hmac: (key, data) => createHmac("sha256", key).update(data).digest(),
    },
    randomBytes,
  };
}

async function run(file: string): Promise<void> {
  const { config, text } = readConfig(file);
  const log = logAdapter(config.logLevel, process.env["JOURNAL_STREAM"] !== undefined);
  const clock = nodeClock();
  let driver: Driver | undefined;
  const reloads = reloadOnHangup(file, text, log, () => driver);
  const routes = routeAdapter({
    onError: (e) => log.warn(e.message),
    onOverrun: () => log.warn("netlink overrun: reading the tables again"),
  });
  const starting: Response = { ok: false, error: "shortcutd is starting" };
  const status = await serveStatus(config.control.socket, (line) => {
    const request = decodeRequest(line);
    if ("error" in request) return JSON.stringify({ ok: false, error: request.error });
    return JSON.stringify(driver === undefined ? starting : answer(driver, clock.now(), request));
  });
  const daemon = daemonOf(config);
  try {
    if (daemon !== undefined) await checkDaemon(config, daemon, routes, (line) => log.warn(line));
    const overlay = await readOverlay(config, routes);
    await checkHost(config, routes, (line) => log.warn(line), isFoundAtStart);
    const { key, created } = await loadOrCreatePrivateKey(config.direct.key);
    if (created) log.info("generated a private key", { file: config.direct.key });
    driver = new Driver(config, routerOf(overlay, key), {
      clock,
      host: hostAdapter(),
      routes,
      wireguard: wireguardAdapter(),
      traffic: trafficAdapter(process.geteuid?.() ?? 0),
      sources: sourceGuardAdapter(config.control.table, config.control.sourcesTable),
      divert: divertAdapter(),
      presharedKeys: config.psk.directory === undefined ? undefined : presharedKeyFiles(config.psk.directory),
      ruleset: rulesetAdapter([config.control.table, config.control.sourcesTable]),
      tableWatch: tableWatchAdapter(),
      guardFile: stateFile(config.guard.file),
      datagrams: datagramAdapter(),
      probes: probeAdapter(new URL("./adapters/sockets/probe-worker.js", import.meta.url)),
      pings: pingAdapter(),
      bgp: bgpAdapter(Math.random),
      daemon,
      log,
    });
    const stopped = stopSignal(log, clock);
    await driver.start();
    await stopped;
    reloads.end();
    log.info("stopping");
    await driver.stop();
    log.info("stopped");
  } finally {
    await daemon?.close();
    await status.close();
  }
}

/** Reloads the configuration at SIGHUP. A closed terminal sends it too, so that it must never end the process. */
function reloadOnHangup(
  file: string,
  text: string,
  log: LeveledLog,
  running: () => Driver | undefined,
): { end(): void } {
  const reloads = new Reloads(text);
  let ended = false;
  const reload = (): void => {
    const driver = running();
    if (ended || driver === undefined) {
      log.warn(`SIGHUP ignored: shortcutd is ${ended ? "stopping" : "starting"}`);
      return;
    }
    let next: ReturnType<Reloads["next"]>;
    try {
      next = reloads.next(readText(file));
    } catch (e) {
      log.error(`configuration not reloaded, nothing has changed: ${errorText(e)}`);
      return;
    }
    if (!next.ok) {
      log.error(`configuration not reloaded, nothing has changed: ${configErrors(file, next.error)}`);
      return;
    }
    const { applied, config, needRestart } = next.value;
    log.setLevel(config.logLevel);
    driver.reload(config);
    log.info("configuration reloaded", { applied, needRestart });
    if (needRestart.length > 0)
      log.warn(`these changed keys have no effect until shortcutd is restarted: ${needRestart.join(", ")}`);
  };
  process.on("SIGHUP", reload);
  return {
    end: () => {
      ended = true;
    },
  };
}

/** Resolves at the first SIGTERM or SIGINT. One that comes {@link STOP_PATIENCE} after it ends the process at once. */
function stopSignal(log: LogPort, clock: Clock): Promise<void> {
  const signals = new StopSignals();
  return new Promise((resolve) => {
    const onSignal = (signal: NodeJS.Signals) => {
      const decision = signals.received(clock.now());
      if (decision === "stop") resolve();
      else if (decision === "ignore")
        log.warn(
          `${signal} ignored: already stopping; after ${toSeconds(STOP_PATIENCE)} s it ends shortcutd at once`,
        );
      else {
        log.error(`${signal}: stopping was not finished, the next start removes what is left`);
        process.exit(EXIT.failed);
      }
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}

const errorText = (e: unknown): string => (e instanceof Error ? e.message : String(e));

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

interface CheckOptions {
  readonly config: string;
  readonly daemon?: boolean;
  readonly file?: boolean;
}

/** Finds everything that is wrong: the file's errors alone, else those of host and daemon together. */
async function check(options: CheckOptions): Promise<void> {
  const { config } = readConfig(options.config);
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  say(`${options.config}: valid, ${config.role} on ${config.overlay}`);
  const routes = routeAdapter({ onError: (e) => toStderr(e.message), onOverrun: () => {} });
  let failure: unknown;
  const step = async (task: () => Promise<void>, fine: string): Promise<void> => {
    try {
      await task();
      say(fine);
    } catch (e) {
      if (failure !== undefined && e instanceof PortError) toStderr(e.message);
      else if (failure === undefined) failure = e;
    }
  };
  const daemon = options.daemon === true ? daemonOf(config) : undefined;
  try {
    if (options.file !== true)
      await step(() => checkHost(config, routes, say), "host: has what shortcutd needs");
    if (daemon !== undefined)
      await step(() => checkDaemon(config, daemon, routes, say), `${daemon.kind}: has what shortcutd needs`);
  } finally {
    await daemon?.close();
  }
  if (failure !== undefined) throw failure;
}

const toStderr = (line: string): void => void process.stderr.write(`shortcutd: ${line}\n`);

const program = new Command("shortcutd")
  .description("Direct spoke-to-spoke WireGuard paths that BIRD or FRR decides on.")
  .showHelpAfterError();

program
  .command("run")
  .description("run in the foreground until SIGTERM or SIGINT; SIGHUP reloads the configuration")
  .requiredOption("-c, --config <file>", "configuration file")
  .action((options: { config: string }) =>
    guarded(() => run(options.config), toStderr).then(() => process.exit()),
  );

program
  .command("check")
  .description(
    "validate a configuration file, look at the host, and with --daemon at the routing daemon's configuration",
  )
  .requiredOption("-c, --config <file>", "configuration file")
  .option("--daemon", "also ask the running BIRD or FRR")
  .option("--file", "only the file: do not look at the host")
  .action((options: CheckOptions) => guarded(() => check(options), toStderr));

await program.parseAsync();
