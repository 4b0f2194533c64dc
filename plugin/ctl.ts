#!/usr/bin/env node
/** shortcutctl: asks a running shortcutd over its status socket. */
import { Command } from "commander";
import { askStatus } from "./adapters/process/status-socket.js";
import { renderExplanation, renderStatus } from "./status/render.js";
import type { Request, Response } from "./status/report.js";

interface Options {
  readonly socket: string;
  readonly json?: boolean;
}

/** Prints the answer. The server is of the same build, so that only `ok` of its answer is checked. */
async function ask(
  options: Options,
  request: Request,
  render: (r: Extract<Response, { ok: true }>) => string,
): Promise<void> {
  try {
    const response = (await askStatus(options.socket, request)) as Response;
    if (!response.ok) throw new Error(response.error);
    process.stdout.write(
      `${options.json === true ? JSON.stringify(response, undefined, 2) : render(response)}\n`,
    );
  } catch (e) {
    process.stderr.write(`shortcutctl: ${e instanceof Error ? e.message : String(e)}\n`);
    process.exitCode = 1;
  }
}

const program = new Command("shortcutctl")
  .description("Show and control a running shortcutd.")
  .option("-s, --socket <path>", "status socket", "/run/shortcutd/control.sock")
  .option("--json", "print the answer as JSON")
  .showHelpAfterError();

const options = (): Options => program.opts<{ socket: string; json?: boolean }>();

program
  .command("status")
  .description("show hubs, shortcuts and counted destinations, each with its stage and what blocks it")
  .option("--json", "print the answer as JSON")
  .action((o: { json?: boolean }) =>
    ask({ ...options(), ...o }, { command: "status" }, (r) => ("status" in r ? renderStatus(r.status) : "")),
  );

program
  .command("explain <destination>")
  .description("show the stage of an address or prefix, and what blocks it")
  .option("--json", "print the answer as JSON")
  .action((query: string, o: { json?: boolean }) =>
    ask({ ...options(), ...o }, { command: "explain", query }, (r) =>
      "explanation" in r ? renderExplanation(r.explanation) : "",
    ),
  );

program
  .command("timeline")
  .description("show past events, newest last")
  .option("--json", "print the answer as JSON")
  .action((o: { json?: boolean }) =>
    ask({ ...options(), ...o }, { command: "timeline", since: 0 }, (r) =>
      "timeline" in r
        ? r.timeline
            .map((e) => `${new Date(e.at).toISOString()}  ${e.owner}  ${e.event}  ${e.detail}`.trimEnd())
            .join("\n")
        : "",
    ),
  );

program
  .command("purge <owner>")
  .description("tear down one owner's shortcut (or all), and start again")
  .action((owner: string) => ask(options(), { command: "purge", owner }, (r) => ("done" in r ? r.done : "")));

program
  .command("guard")
  .description("show the prefixes whose packets never leave in the clear")
  .option("--json", "print the answer as JSON")
  .action((o: { json?: boolean }) =>
    ask({ ...options(), ...o }, { command: "guard" }, (r) =>
      "guard" in r
        ? r.guard
            .map((g) => `${g.prefix}  ${g.stands ? "guarded" : "covered by another route, or excepted"}`)
            .join("\n")
        : "",
    ),
  );

program
  .command("forget <prefix>")
  .description("guard a prefix (or all) no longer, until a hub attests it again")
  .action((prefix: string) =>
    ask(options(), { command: "forget", prefix }, (r) => ("done" in r ? r.done : "")),
  );

await program.parseAsync();
