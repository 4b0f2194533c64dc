/**
 * The system calls that Node has no binding for: sockets of families and with options that `net` and `dgram` do not
 * offer. Called through koffi. Every function returns what the C function returns, or the negative errno.
 */
import koffi from "koffi";

const libc = koffi.load("libc.so.6");

type Foreign = (...args: readonly (number | Uint8Array)[]) => unknown;
const foreign = (definition: string): Foreign => libc.func(definition);

const cSocket = foreign("int socket(int, int, int)");
const cBind = foreign("int bind(int, const void *, unsigned int)");
const cClose = foreign("int close(int)");
const cSetsockopt = foreign("int setsockopt(int, int, int, const void *, unsigned int)");
const cSend = foreign("long send(int, const void *, size_t, int)");
const cSendto = foreign("long sendto(int, const void *, size_t, int, const void *, unsigned int)");
const cConnect = foreign("int connect(int, const void *, unsigned int)");
const cGetsockname = foreign("int getsockname(int, _Inout_ void *, _Inout_ void *)");
const cRecvfrom = foreign("long recvfrom(int, _Inout_ void *, size_t, int, _Inout_ void *, _Inout_ void *)");
const cSchedSetscheduler = foreign("int sched_setscheduler(int, int, const void *)");
const cSetpriority = foreign("int setpriority(int, int, int)");

const cIfIndexToName = foreign("void *if_indextoname(unsigned int, _Out_ void *)");

koffi.struct("sock_fprog", { len: "uint16_t", filter: "const uint8_t *" });
const cSetFilter: (...args: readonly unknown[]) => unknown = libc.func(
  "int setsockopt(int, int, int, const sock_fprog *, unsigned int)",
);
const SO_ATTACH_FILTER = 26;

/** koffi gives a `long` as a number where it is safe, else as a bigint. */
function outcome(value: unknown): number {
  const n = Number(value);
  return n < 0 ? -koffi.errno() : n;
}

export const AF_NETLINK = 16;
export const SOCK_RAW = 3;
export const SOCK_DGRAM = 2;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const SOL_SOCKET = 1;
export const MSG_DONTWAIT = 0x40;
/** recv() tells the whole length of a datagram that was cut. */
export const MSG_TRUNC = 0x20;

export const socket = (family: number, type: number, protocol: number): number =>
  outcome(cSocket(family, type, protocol));
export const bind = (fd: number, address: Uint8Array): number => outcome(cBind(fd, address, address.length));
export const close = (fd: number): number => outcome(cClose(fd));
export const setsockopt = (fd: number, level: number, option: number, value: Uint8Array): number =>
  outcome(cSetsockopt(fd, level, option, value, value.length));
export const setsockoptInt = (fd: number, level: number, option: number, value: number): number =>
  setsockopt(fd, level, option, new Uint8Array(Int32Array.of(value).buffer));
export const send = (fd: number, bytes: Uint8Array, flags: number): number =>
  outcome(cSend(fd, bytes, bytes.length, flags));
export const sendto = (fd: number, bytes: Uint8Array, to: Uint8Array): number =>
  outcome(cSendto(fd, bytes, bytes.length, MSG_DONTWAIT, to, to.length));
export const connect = (fd: number, address: Uint8Array): number =>
  outcome(cConnect(fd, address, address.length));
/** The socket's own address is written into `address`. */
export const getsockname = (fd: number, address: Uint8Array): number =>
  outcome(cGetsockname(fd, address, new Uint8Array(Uint32Array.of(address.length).buffer)));

/** Returns the name of an interface; undefined when no interface has that index. */
export function interfaceName(ifindex: number): string | undefined {
  const name = new Uint8Array(16);
  if (cIfIndexToName(ifindex, name) === null) return undefined;
  return new TextDecoder().decode(name.subarray(0, Math.max(0, name.indexOf(0))));
}

/** recvfrom() into `buffer`; the sender is written into `from` (left alone where it is shorter). */
const fromLength = new Uint32Array(1);
const fromLengthBytes = new Uint8Array(fromLength.buffer);
export function recvfrom(fd: number, buffer: Uint8Array, flags: number, from: Uint8Array): number {
  fromLength[0] = from.length;
  return outcome(cRecvfrom(fd, buffer, buffer.length, flags, from, fromLengthBytes));
}

/** SO_ATTACH_FILTER (socket(7)) with the instructions of a classic BPF program, `struct sock_filter` each. */
export function attachFilter(fd: number, program: Uint8Array): number {
  // struct sock_fprog: a length and a pointer, which only koffi can make
  return outcome(
    cSetFilter(fd, SOL_SOCKET, SO_ATTACH_FILTER, { len: program.length / 8, filter: program }, 16),
  );
}

/** sched_setscheduler(2): thread 0 is the calling one. */
export const schedSetscheduler = (thread: number, policy: number, priority: number): number =>
  outcome(cSchedSetscheduler(thread, policy, new Uint8Array(Int32Array.of(priority).buffer)));
/** setpriority(2) with PRIO_PROCESS, which on Linux means a thread; 0 is the calling one. */
export const setpriority = (thread: number, nice: number): number => outcome(cSetpriority(0, thread, nice));

/**
 * Calls `onReadable` whenever the descriptor is readable or in error, from the event loop, without a thread
 * (`uv_poll`). libuv stops a poll that reports an error (POLLERR, which is what a netlink overrun looks like): it is
 * started again here, so the callback only has to read until EAGAIN. An exception of the callback becomes an
 * uncaught exception of the process, not an abort inside native code.
 */
export function pollReadable(
  fd: number,
  onReadable: () => void,
): { stop(): void; start(): void; close(): void } {
  let polling = true;
  let closed = false;
  // koffi's declaration says (events); it calls with (status, events).
  const callback = (...args: unknown[]): void => {
    const failed = args[0] !== 0;
    try {
      onReadable();
    } catch (e) {
      queueMicrotask(() => {
        throw e;
      });
    }
    if (failed && polling && !closed) {
      handle.stop();
      handle.start({ readable: true }, callback);
    }
  };
  const handle = koffi.node.poll(fd, { readable: true }, callback);
  return {
    stop() {
      if (polling && !closed) handle.stop();
      polling = false;
    },
    start() {
      if (!polling && !closed) handle.start({ readable: true }, callback);
      polling = true;
    },
    close() {
      if (closed) return;
      closed = true;
      polling = false;
      handle.close();
    },
  };
}
