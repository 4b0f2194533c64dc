/**
 * Replies of BIRD's control socket. Each line is one of
 *
 *     dddd-text   a line of kind dddd, more follow        ␣text   another line of the kind before
 *     dddd text   the last line of the reply              +text   asynchronous, belongs to no reply
 *
 * Kinds: 0xxx done, 1xxx data, 2xxx table heading, 8xxx runtime error, 9xxx parse error (BIRD: `nest/cli.c`,
 * `doc/reply_codes`). The greeting (`0001 BIRD 2.0.12 ready.`) has the form of a reply of one line. The decoder is
 * bounded, keeps partial lines between chunks, and is of no use after its first error: the stream is out of step.
 */
import { err, ok, type Result } from "../../net/result.js";

export interface ReplyLine {
  readonly code: number;
  readonly text: string;
}

export interface BirdReply {
  /** Data lines in order; the last line of the reply is not among them. */
  readonly lines: readonly ReplyLine[];
  readonly last: ReplyLine;
}

export type ReplyError =
  | { readonly kind: "line-too-long"; readonly limit: number }
  | { readonly kind: "reply-too-large"; readonly limit: number }
  | { readonly kind: "malformed-line"; readonly line: string };

/** BIRD's own output buffer holds lines of 4096 bytes (`CLI_MSG_SIZE` is 500); long AS paths may need more. */
const MAX_LINE = 65_536;
/** All characters of one reply: a listing of some ten thousand protocols fits. */
const MAX_REPLY = 16 << 20;

/** A runtime error or a refused command. */
export const isFailure = (reply: BirdReply): boolean => reply.last.code >= 8000;
/** BIRD did not understand the command; also for a name that it does not know. */
export const isRefused = (reply: BirdReply): boolean => reply.last.code >= 9000;

export function describeReplyError(error: ReplyError): string {
  switch (error.kind) {
    case "line-too-long":
      return `a line of the reply is longer than ${error.limit} bytes`;
    case "reply-too-large":
      return `the reply is larger than ${error.limit} bytes`;
    case "malformed-line":
      return `${JSON.stringify(error.line)} is not a line of BIRD's control protocol`;
  }
}

export class ReplyDecoder {
  private rest: Uint8Array = new Uint8Array(0);
  private lines: ReplyLine[] = [];
  private size = 0;
  private failed: ReplyError | undefined;

  constructor(
    private readonly maxLine = MAX_LINE,
    private readonly maxReply = MAX_REPLY,
  ) {}

  /** Takes bytes as they come; returns the replies that they complete. After an error it returns that error for ever. */
  push(bytes: Uint8Array): Result<readonly BirdReply[], ReplyError> {
    if (this.failed !== undefined) return err(this.failed);
    const replies: BirdReply[] = [];
    const data = this.rest.length === 0 ? bytes : joined(this.rest, bytes);
    let from = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, from)) {
      if (end - from > this.maxLine) return this.fail({ kind: "line-too-long", limit: this.maxLine });
      const error = this.line(new TextDecoder().decode(data.subarray(from, end)), replies);
      if (error !== undefined) return this.fail(error);
      from = end + 1;
    }
    this.rest = data.slice(from);
    if (this.rest.length > this.maxLine) return this.fail({ kind: "line-too-long", limit: this.maxLine });
    return ok(replies);
  }

  private fail(error: ReplyError): Result<never, ReplyError> {
    this.failed = error;
    this.rest = new Uint8Array(0);
    this.lines = [];
    return err(error);
  }

  private line(line: string, replies: BirdReply[]): ReplyError | undefined {
    if (line.startsWith("+")) return undefined;
    this.size += line.length + 1;
    if (this.size > this.maxReply) return { kind: "reply-too-large", limit: this.maxReply };
    const malformed: ReplyError = { kind: "malformed-line", line: line.slice(0, 80) };
    if (line.startsWith(" ")) {
      const before = this.lines.at(-1);
      if (before === undefined) return malformed;
      this.lines.push({ code: before.code, text: line.slice(1) });
      return undefined;
    }
    const m = /^(\d{4})([- ])(.*)$/s.exec(line);
    if (m === null) return malformed;
    const read: ReplyLine = { code: Number(m[1]), text: m[3] ?? "" };
    if (m[2] === "-") {
      this.lines.push(read);
      return undefined;
    }
    replies.push({ lines: this.lines, last: read });
    this.lines = [];
    this.size = 0;
    return undefined;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
