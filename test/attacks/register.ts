/**
 * An attack: registers at a hub with a direct key of its own, without the key of the overlay peer.
 *   register.js SOURCE SOURCE_PORT HUB HUB_KEY [UID]
 * The proof is made under a random overlay key, as good as one can without the right one. Ends with 0
 * when the attack was refused or went unanswered, with 1 when the hub accepted the registration.
 */
import { createHmac, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { generatePrivateKey, publicKeyOf, sharedSecret } from "../../plugin/adapters/wireguard/keys.js";
import { address } from "../../plugin/net/address.js";
import { parsePublicKey } from "../../plugin/net/key.js";
import { ControlLink } from "../../plugin/shortcut/control/link.js";
import { OverlaySecrets, PairSecrets } from "../../plugin/shortcut/control/pair-secrets.js";
import { registrationProof } from "../../plugin/shortcut/control/registration-proof.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";

const CONTROL_PORT = 4243;
const [sourceText = "", portText = "", hubText = "", hubKeyText = "", uidText] = process.argv.slice(2);
const source = address(sourceText);
const hub = address(hubText);
const hubKey = parsePublicKey(hubKeyText);
if (hubKey === undefined) throw new Error("HUB_KEY is not a key");
if (uidText !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(Number(uidText));
  process.setuid?.(Number(uidText));
}

const own = generatePrivateKey();
const overlay = generatePrivateKey();
const hmac = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  createHmac("sha256", key).update(data).digest();
const self = { address: source, publicKey: publicKeyOf(own), bootId: id64FromBytes(randomBytes(8)) };
const link = new ControlLink(
  self,
  CONTROL_PORT,
  new PairSecrets((theirs) => sharedSecret(own, theirs), hmac),
  (n) => randomBytes(n),
  { retransmit: 250, attempts: 4 },
  () => undefined,
);
const registration = { spoke: source, hub, directKey: self.publicKey, bootId: self.bootId };
const secrets = new OverlaySecrets({ overlayShared: (_, theirs) => sharedSecret(overlay, theirs), hmac });
const proof = registrationProof(secrets, { own: publicKeyOf(overlay), peer: hubKey }, registration);

const socket = createSocket(source.includes(":") ? "udp6" : "udp4");
const end = (accepted: boolean, what: string): void => {
  console.log(what);
  process.exitCode = accepted ? 1 : 0;
  socket.close();
  clearInterval(timer);
};
const flush = (): void => {
  for (let d = link.pollOutput(); d !== undefined; d = link.pollOutput())
    // a packet that the own router's guard drops is an error of the send
    socket.send(d.payload, d.to.port, d.to.address, () => undefined);
};
const now = (): number => performance.now();
const timer = setInterval(() => {
  link.handleTimeout(now());
  flush();
}, 50);
socket.on("error", (e) => end(false, `error: ${e.message}`));
socket.on("message", (bytes, from) => {
  link.handleDatagram(now(), { address: address(from.address), port: from.port }, bytes);
  flush();
});
socket.bind({ address: source, port: Number(portText) }, () => {
  const body = {
    kind: "register",
    listenPort: 51821,
    handshakeAge: 0,
    proof: proof ?? new Uint8Array(16),
  } as const;
  link.request(now(), hub, body, (_, o) => {
    if (o.kind === "timeout") end(false, "unanswered");
    else if (o.body.kind === "registered") end(true, "registered");
    else end(false, o.body.kind === "refused" ? `refused: ${o.body.reason}` : o.body.kind);
  });
  flush();
});
