/** The password of the sessions with the daemon, from its file: one line, which the daemon's configuration has too. */
import { PortError } from "../../driver/ports.js";
import { isPassword, LONGEST_PASSWORD } from "../../wire/tcp-md5.js";
import { ownUser, readSecret, type SecretKind } from "../process/secret-file.js";

const PASSWORD: SecretKind = {
  what: "password",
  setting: "bgp.password-file",
  renew: "make a new one, and give it to the daemon too",
};

/**
 * The password in `file`; undefined when there is no such file and none is required. @throws PortError
 * when the file is refused (secret-file.ts), holds no password, or is required and not there.
 */
export function readPassword(
  { file, required }: { readonly file: string; readonly required: boolean },
  user = ownUser(),
): string | undefined {
  const text = readSecret(file, PASSWORD, user);
  if (text === undefined) {
    if (!required) return undefined;
    throw new PortError(`password ${file}`, "does not exist", "README says how to make it", "ENOENT");
  }
  const password = text.replace(/\r?\n$/, "");
  if (isPassword(password)) return password;
  throw new PortError(
    `password ${file}`,
    "holds no password",
    `it must be one line of 1 to ${LONGEST_PASSWORD} printable characters without blanks, double quotes and backslashes`,
    "EINVAL",
  );
}
