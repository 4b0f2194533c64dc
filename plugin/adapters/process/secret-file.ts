/**
 * Reads a file that holds a secret: the private key, the password of the sessions with the daemon. It
 * is refused where another user could read it, or could put another file in its place: owner and mode
 * of the file and of its directories are checked. A symbolic link is refused, since it is its owner
 * who decides which file is read. A FIFO or a device is not waited for. Nothing here ever puts the
 * content into an error.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { PortError } from "../../driver/ports.js";
import { codeOf } from "../error-code.js";

export interface SecretKind {
  /** `private key`. */
  readonly what: string;
  /** The key of the configuration that names the file. */
  readonly setting: string;
  /** The remedy where somebody may have read or replaced it. */
  readonly renew: string;
}

/** The user for whom a file is judged. */
export const ownUser = (): number => process.geteuid?.() ?? 0;

/** Bytes of a file, with room for a line feed and blanks. */
const LONGEST = 256;
const STICKY = 0o1000;
const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0");

/** The directory and those above it: whoever may write to one of them may replace what is below. */
function directoriesOf(path: string): string[] {
  const out: string[] = [];
  for (let at = realpathSync(dirname(path)); ; at = dirname(at)) {
    out.push(at);
    if (at === dirname(at)) return out;
  }
}

function checkDirectories(path: string, kind: SecretKind, user: number): void {
  for (const [i, directory] of directoriesOf(path).entries()) {
    const place = `directory ${directory} of ${kind.what} ${path}`;
    const { mode, uid } = lstatSync(directory);
    if (uid !== user && uid !== 0)
      throw new PortError(
        place,
        `belongs to uid ${uid}, who can replace the file: shortcutd runs as uid ${user}`,
        `name a file in a directory of shortcutd's own in \`${kind.setting}\`, or: chown ${user} ${directory}`,
        "EPERM",
      );
    // in a sticky directory above, such as /tmp, nobody can rename what is another user's
    if ((mode & 0o022) !== 0 && (i === 0 || (mode & STICKY) === 0))
      throw new PortError(
        place,
        `is writable by others (mode ${octal(mode)})`,
        `chmod go-w ${directory}; if somebody may have replaced the file: ${kind.renew}`,
        "EPERM",
      );
  }
}

function checkFile(fd: number, path: string, kind: SecretKind, user: number): void {
  const place = `${kind.what} ${path}`;
  const stat = fstatSync(fd);
  if (!stat.isFile())
    throw new PortError(place, "is not a regular file", `name a file in \`${kind.setting}\``, "EINVAL");
  if (stat.uid !== user && stat.uid !== 0)
    throw new PortError(
      place,
      `belongs to uid ${stat.uid}, who can read it: shortcutd runs as uid ${user}`,
      `if nobody read it: chown ${user}; else ${kind.renew}`,
      "EPERM",
    );
  // a check that root makes for the service's user
  if (stat.uid === 0 && user !== 0)
    throw new PortError(
      place,
      `belongs to root alone: shortcutd, which runs as uid ${user}, cannot read it`,
      `chown ${user} ${path}`,
      "EACCES",
    );
  if ((stat.mode & 0o077) !== 0)
    throw new PortError(
      place,
      `is accessible to others (mode ${octal(stat.mode & 0o777)})`,
      `if nobody read it: chmod 600; else ${kind.renew}`,
      "EPERM",
    );
}

function readOpened(fd: number, place: string): string {
  const bytes = new Uint8Array(LONGEST + 1);
  let length = 0;
  for (;;) {
    const n = readSync(fd, bytes, length, bytes.length - length, null);
    length += n;
    if (n === 0 || length === bytes.length) break;
  }
  if (length > LONGEST) throw new PortError(place, `is larger than ${LONGEST} bytes`, "", "EFBIG");
  return new TextDecoder().decode(bytes.subarray(0, length));
}

/** Returns the file's text; undefined when there is no such file. @throws PortError when it is refused, or cannot be read. */
export function readSecret(path: string, kind: SecretKind, user = ownUser()): string | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      checkFile(fd, path, kind, user);
      checkDirectories(path, kind, user);
      return readOpened(fd, `${kind.what} ${path}`);
    } finally {
      closeSync(fd);
    }
  } catch (e) {
    if (e instanceof PortError) throw e;
    const place = `${kind.what} ${path}`;
    if (codeOf(e) === "ENOENT") return undefined;
    if (codeOf(e) === "ELOOP")
      throw new PortError(
        place,
        "is a symbolic link",
        `name the file itself in \`${kind.setting}\``,
        "ELOOP",
      );
    throw new PortError(
      place,
      `cannot be read: ${codeOf(e) ?? String(e)}`,
      codeOf(e) === "EACCES" ? `chown ${user} ${path}` : "check the path and its owner",
      codeOf(e),
    );
  }
}

/** @throws PortError when a new file in its directory could be replaced by another user. */
export function requireOwnDirectory(path: string, kind: SecretKind): void {
  try {
    checkDirectories(path, kind, ownUser());
  } catch (e) {
    if (e instanceof PortError) throw e;
    throw new PortError(
      `${kind.what} ${path}`,
      `cannot be created: ${codeOf(e) ?? String(e)}`,
      "the directory must exist and be writable",
      codeOf(e),
    );
  }
}

/**
 * The user that shortcutd runs as, as root finds it: the owner of the directory of its secrets. For a
 * check alone, which root runs for the service's user.
 */
export function userOfDirectory(path: string): number {
  const own = ownUser();
  if (own !== 0) return own;
  try {
    return statSync(dirname(path)).uid;
  } catch {
    return own;
  }
}
