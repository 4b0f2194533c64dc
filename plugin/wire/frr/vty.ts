/**
 * Framing of FRR's vty sockets (`/run/frr/bgpd.vty`), as vtysh uses them: a command ends with NUL; the reply is text, three
 * NULs and one byte of status (FRR: `lib/vty.c` vtysh_read, `vtysh/vtysh.c` vtysh_client_run; the same in 8.4 and 10.3). Text
 * holds no NUL of its own. Bounded; of no use after its first error, since the stream is then out of step.
 */
import { err, ok, type Result } from "../../net/result.js";

/** `lib/command.h`; every other status is a warning or an error. */
export const CMD_SUCCESS = 0;

export interface VtyReply {
  readonly text: string;
  readonly status: number;
}

export type VtyError =
  | { readonly kind: "reply-too-large"; readonly limit: number }
  | { readonly kind: "stray-nul"; readonly offset: number };

/** A running configuration with prefix lists of some hundred thousand lines fits. */
const MAX_REPLY = 32 << 20;

export function describeVtyError(error: VtyError): string {
  switch (error.kind) {
    case "reply-too-large":
      return `the reply is larger than ${error.limit} bytes`;
    case "stray-nul":
      return `the reply has a NUL at byte ${error.offset} that ends nothing: not FRR's vty protocol`;
  }
}

/** @throws RangeError for a command with a control character: a caller's bug. */
export function encodeCommand(command: string): Uint8Array {
  for (const c of command)
    if (c < " ") throw new RangeError(`a command is one line: ${JSON.stringify(command)}`);
  return new TextEncoder().encode(`${command}\0`);
}

export class VtyDecoder {
  private chunks: Uint8Array[] = [];
  private size = 0;
  /** NULs seen at the end of what was taken, 0 to 3. */
  private nuls = 0;
  private failed: VtyError | undefined;

  constructor(private readonly maxReply = MAX_REPLY) {}

  /** Takes bytes as they come; returns the replies that they complete. After an error it returns that error for ever. */
  push(bytes: Uint8Array): Result<readonly VtyReply[], VtyError> {
    if (this.failed !== undefined) return err(this.failed);
    const replies: VtyReply[] = [];
    let from = 0;
    let at = 0;
    while (at < bytes.length) {
      if (this.nuls === 3) {
        replies.push({ text: this.take(bytes.subarray(from, at)), status: bytes[at] ?? 0 });
        from = ++at;
        continue;
      }
      if (this.nuls > 0) {
        if (bytes[at] !== 0) return this.fail({ kind: "stray-nul", offset: this.size + at - from - 1 });
        this.nuls++;
        at++;
        continue;
      }
      const nul = bytes.indexOf(0, at);
      if (nul < 0) break;
      this.nuls = 1;
      at = nul + 1;
    }
    const rest = bytes.slice(from);
    this.size += rest.length;
    this.chunks.push(rest);
    return this.size > this.maxReply
      ? this.fail({ kind: "reply-too-large", limit: this.maxReply })
      : ok(replies);
  }

  /** The text up to the terminator, of which `tail` holds the end. */
  private take(tail: Uint8Array): string {
    const whole = new Uint8Array(this.size + tail.length);
    let at = 0;
    for (const chunk of [...this.chunks, tail]) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    this.chunks = [];
    this.size = 0;
    this.nuls = 0;
    return new TextDecoder().decode(whole.subarray(0, -3));
  }

  private fail(error: VtyError): Result<never, VtyError> {
    this.failed = error;
    this.chunks = [];
    return err(error);
  }
}
