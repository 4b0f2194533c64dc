/**
 * Netlink sockets (netlink(7)). Requests and dumps use a socket of their own each: the kernel answers rtnetlink, generic
 * netlink and nfnetlink within the system call that asks, so a request is over before the event loop could turn, and
 * nothing can interleave. Dumps are read in slices and yield to the event loop. Notifications come through `uv_poll`;
 * an overrun (ENOBUFS) is an ordinary outcome of reading. Why it is done this way: doc/decisions/001-netlink-transport.md.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { PortError } from "../../driver/ports.js";
import { EAGAIN, EINTR, ENOBUFS, EPERM, errnoName } from "../../wire/netlink/errno.js";
import {
  decodeMessages,
  decodeStatus,
  encodeMessage,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
} from "../../wire/netlink/message.js";
import {
  AF_NETLINK,
  bind,
  close,
  MSG_DONTWAIT,
  MSG_TRUNC,
  pollReadable,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
  send,
  setsockoptInt,
  socket,
} from "./libc.js";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;

/** The kernel makes dump messages of at most 32 KiB; a notification of a wide multipath route may be longer. */
const RECEIVE_BYTES = 1 << 17;
/** How long a dump may keep the event loop before it yields. */
const SLICE_MS = 8;
/** The kernel answers at once; this bounds a bug. */
const ANSWER_DEADLINE_MS = 10_000;
/** Notifications handled per turn of the event loop. */
const NOTIFICATIONS_PER_TURN = 1024;

/** An error that the kernel answered. */
export class NetlinkError extends PortError {
  constructor(
    place: string,
    readonly errno: number,
    message: string | undefined,
  ) {
    super(
      place,
      message === undefined ? errnoName(errno) : `${errnoName(errno)}: ${message}`,
      errno === EPERM ? "run as root or with CAP_NET_ADMIN" : "",
      errnoName(errno),
    );
  }
}

interface Opened {
  readonly fd: number;
}

function open(protocol: number, place: string): Opened {
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw new NetlinkError(place, -fd, "socket(AF_NETLINK)");
  // Older kernels lack some of these; they only make answers better or dumps smaller.
  setsockoptInt(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
  setsockoptInt(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
  if (protocol === NETLINK_ROUTE) setsockoptInt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  const address = new Uint8Array(12);
  new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
  const bound = bind(fd, address);
  if (bound < 0) {
    close(fd);
    throw new NetlinkError(place, -bound, "bind(AF_NETLINK)");
  }
  return { fd };
}

const receiveBuffer = new Uint8Array(RECEIVE_BYTES);
const sender = new Uint8Array(12);
const senderView = new DataView(sender.buffer);

type Received =
  | { readonly kind: "datagram"; readonly bytes: Uint8Array }
  | { readonly kind: "nothing" }
  | { readonly kind: "overrun" }
  | { readonly kind: "error"; readonly errno: number };

/** One datagram, as a view into a shared buffer: valid until the next call. Only the kernel (port 0) is listened to. */
function receive(fd: number): Received {
  for (;;) {
    const n = recvfrom(fd, receiveBuffer, MSG_DONTWAIT | MSG_TRUNC, sender);
    if (n < 0) {
      if (n === -EAGAIN) return { kind: "nothing" };
      if (n === -EINTR) continue;
      if (n === -ENOBUFS) return { kind: "overrun" };
      return { kind: "error", errno: -n };
    }
    if (senderView.getUint32(4, true) !== 0) continue;
    if (n > receiveBuffer.length) return { kind: "overrun" };
    return { kind: "datagram", bytes: receiveBuffer.subarray(0, n) };
  }
}

/** The cost of reading: a test shows by it that a dump of one table reads no other. */
export interface DumpCost {
  messages: number;
  bytes: number;
  /** NLM_F_DUMP_INTR was seen: what was read may be incomplete. */
  interrupted: boolean;
}

/**
 * Sends one request and hands every message of the answer to `onMessage`, except the final status. Payloads are views
 * that are valid only during the call. Rejects with {@link NetlinkError} for an error that the kernel answers.
 */
async function exchange(
  protocol: number,
  request: NetlinkRequest,
  place: string,
  onMessage: (m: NetlinkMessage) => void,
): Promise<DumpCost> {
  const cost: DumpCost = { messages: 0, bytes: 0, interrupted: false };
  const { fd } = open(protocol, place);
  try {
    const isDump = (request.flags & NLM_F_DUMP) === NLM_F_DUMP;
    const flags = request.flags | NLM_F_REQUEST | (isDump ? 0 : NLM_F_ACK);
    const sent = send(fd, encodeMessage({ ...request, flags, seq: 1, portid: 0 }), 0);
    if (sent < 0) throw new NetlinkError(place, -sent, "send");
    const deadline = performance.now() + ANSWER_DEADLINE_MS;
    let sliceEnd = performance.now() + SLICE_MS;
    for (;;) {
      const r = receive(fd);
      switch (r.kind) {
        case "nothing":
          if (performance.now() > deadline)
            throw new PortError(place, "no answer from the kernel", "report this with the kernel version");
          await nextTurn();
          continue;
        case "overrun":
          throw new NetlinkError(place, ENOBUFS, "the answer did not fit the socket's buffer");
        case "error":
          throw new NetlinkError(place, r.errno, "recv");
        case "datagram":
      }
      cost.bytes += r.bytes.length;
      const messages = decodeMessages(r.bytes);
      if (!messages.ok)
        throw new PortError(place, `malformed answer: ${messages.error.at}: ${messages.error.problem}`);
      for (const m of messages.value) {
        if ((m.flags & NLM_F_DUMP_INTR) !== 0) cost.interrupted = true;
        if (m.type === NLMSG_ERROR || m.type === NLMSG_DONE) {
          const status = decodeStatus(m);
          if (!status.ok)
            throw new PortError(place, `malformed answer: ${status.error.at}: ${status.error.problem}`);
          if (status.value.errno !== 0)
            throw new NetlinkError(place, status.value.errno, status.value.message);
          return cost;
        }
        if (m.type === NLMSG_NOOP || m.type === NLMSG_OVERRUN) continue;
        cost.messages++;
        onMessage(m);
      }
      if (performance.now() > sliceEnd) {
        await nextTurn();
        sliceEnd = performance.now() + SLICE_MS;
      }
    }
  } finally {
    close(fd);
  }
}

/** The answer of one request. `place` names it in errors: `netlink RTM_NEWROUTE 198.18.0.1/32`. */
export async function netlinkRequest(
  protocol: number,
  request: NetlinkRequest,
  place: string,
): Promise<NetlinkMessage[]> {
  const out: NetlinkMessage[] = [];
  await exchange(protocol, request, place, (m) => out.push({ ...m, payload: m.payload.slice() }));
  return out;
}

/**
 * Asks a question that the kernel answers with one message, without leaving the call. Undefined when
 * the answer is not there yet when `send` returns, which the kernel does not do.
 * @throws NetlinkError for an error that the kernel answers.
 */
export function netlinkAsk(
  protocol: number,
  request: NetlinkRequest,
  place: string,
): NetlinkMessage | undefined {
  const { fd } = open(protocol, place);
  try {
    const flags = request.flags | NLM_F_REQUEST;
    const sent = send(fd, encodeMessage({ ...request, flags, seq: 1, portid: 0 }), 0);
    if (sent < 0) throw new NetlinkError(place, -sent, "send");
    const r = receive(fd);
    if (r.kind !== "datagram") return undefined;
    const messages = decodeMessages(r.bytes);
    const answer = messages.ok ? messages.value[0] : undefined;
    if (answer?.type !== NLMSG_ERROR) return answer && { ...answer, payload: answer.payload.slice() };
    const status = decodeStatus(answer);
    if (status.ok && status.value.errno !== 0)
      throw new NetlinkError(place, status.value.errno, status.value.message);
    return undefined;
  } finally {
    close(fd);
  }
}

/** A dump, message by message, without keeping it; see {@link exchange} for the life of payloads. */
export const netlinkDump = (
  protocol: number,
  request: NetlinkRequest,
  place: string,
  onMessage: (m: NetlinkMessage) => void,
): Promise<DumpCost> => exchange(protocol, request, place, onMessage);

export interface NotificationHandlers {
  /** A view, valid only during the call. */
  readonly onMessage: (m: NetlinkMessage) => void;
  /** Notifications were lost (ENOBUFS). Reading stops until {@link Subscription.resume}. */
  readonly onOverrun: () => void;
}

export interface Subscription {
  /** Stops reading; the kernel buffers. */
  pause(): void;
  resume(): void;
  /** Throws away what has arrived so far: a dump that begins after this supersedes it. */
  discard(): void;
  close(): void;
}

/**
 * Joins multicast groups of rtnetlink, or of another protocol. Reading starts with {@link Subscription.resume}.
 * `receiveBuffer` in bytes (SO_RCVBUFFORCE; the kernel doubles it for its own bookkeeping).
 * @throws NetlinkError when a group cannot be joined.
 */
export function subscribe(
  groups: readonly number[],
  receiveBufferBytes: number,
  handlers: NotificationHandlers,
  protocol = NETLINK_ROUTE,
): Subscription {
  const place = "netlink subscription";
  const { fd } = open(protocol, place);
  if (setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBufferBytes) < 0)
    setsockoptInt(fd, SOL_SOCKET, SO_RCVBUF, receiveBufferBytes);
  for (const group of groups) {
    const joined = setsockoptInt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    if (joined < 0) {
      close(fd);
      throw new NetlinkError(place, -joined, `NETLINK_ADD_MEMBERSHIP of group ${group}`);
    }
  }
  let paused = true;
  const overrun = (): void => {
    paused = true;
    poll.stop();
    handlers.onOverrun();
  };
  const poll = pollReadable(fd, () => {
    for (let handled = 0; handled < NOTIFICATIONS_PER_TURN && !paused; ) {
      const r = receive(fd);
      if (r.kind === "nothing") return;
      if (r.kind !== "datagram") return overrun();
      const messages = decodeMessages(r.bytes);
      if (!messages.ok) return overrun();
      for (const m of messages.value) {
        if (m.type === NLMSG_OVERRUN) return overrun();
        handlers.onMessage(m);
        handled++;
      }
    }
  });
  poll.stop();
  let closed = false;
  return {
    pause() {
      paused = true;
      poll.stop();
    },
    resume() {
      paused = false;
      poll.start();
    },
    discard() {
      // An overrun among what is discarded is superseded just the same.
      for (;;) {
        const r = receive(fd);
        if (r.kind === "nothing" || r.kind === "error") return;
      }
    },
    close() {
      if (closed) return;
      closed = true;
      paused = true;
      poll.close();
      // uv_close stops watching at once; the descriptor may go after it.
      close(fd);
    },
  };
}
