/**
 * An attack: a hub that answers for an owner with a direct key of its own. It runs on the hub in place of
 * shortcutd, registers the spoke, names its own key for the owner, and takes and sends the owner's control
 * messages by NAT rules of its own.
 *   substitute.js HUB SPOKE SPOKE_SITE OWNER OWNER_SITE
 * Prints the key that it speaks for the owner with. Ends with 0 when the spoke refused it, with the reason, or
 * does not answer; with 1 when the spoke's daemon selected an offer for it: the next step would be the peer.
 */
import { execFileSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { generatePrivateKey, publicKeyOf, sharedSecret } from "../../plugin/adapters/wireguard/keys.js";
import { type Address, address, prefix } from "../../plugin/net/address.js";
import { generationOf } from "../../plugin/shortcut/control/generation.js";
import { ControlLink, type Correspondent } from "../../plugin/shortcut/control/link.js";
import { PairSecrets } from "../../plugin/shortcut/control/pair-secrets.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import type { ReplyBody, RequestBody } from "../../plugin/wire/control/message.js";

const CONTROL_PORT = 4243;
/** Where the owner's control messages arrive here. */
const OWNER_PORT = 4300;
const TABLE = "substitute";
const LIMIT = 40_000;

const [hubText = "", spokeText = "", spokeSite = "", ownerText = "", ownerSite = ""] = process.argv.slice(2);
const [hub, spoke, owner] = [address(hubText), address(spokeText), address(ownerText)];
const sites = new Map([
  [spoke, [prefix(spokeSite)]],
  [owner, [prefix(ownerSite)]],
]);

const hmac = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  createHmac("sha256", key).update(data).digest();
const now = (): number => performance.now();

/** Speaks the control protocol at an address, under a key of its own. */
class Impostor {
  readonly publicKey;
  private readonly link: ControlLink;
  readonly socket: Socket = createSocket("udp4");

  constructor(
    at: Address,
    bind: { readonly address?: string; readonly port: number },
    answer: (from: Correspondent, body: RequestBody) => ReplyBody,
  ) {
    const own = generatePrivateKey();
    this.publicKey = publicKeyOf(own);
    this.link = new ControlLink(
      { address: at, publicKey: this.publicKey, bootId: id64FromBytes(randomBytes(8)) },
      CONTROL_PORT,
      new PairSecrets((theirs) => sharedSecret(own, theirs), hmac),
      (n) => randomBytes(n),
      { retransmit: 250, attempts: 5 },
      (_now, from, body) => answer(from, body),
    );
    this.socket.on("error", (e) => end(false, `error: ${e.message}`));
    this.socket.on("message", (bytes, from) => {
      this.link.handleDatagram(now(), { address: address(from.address), port: from.port }, bytes);
      this.flush();
    });
    this.socket.bind(bind);
  }

  ask(body: RequestBody, done: (reply: ReplyBody | undefined) => void): void {
    this.link.request(now(), spoke, body, (_t, o) => done(o.kind === "reply" ? o.body : undefined));
    this.flush();
  }

  tick(): void {
    this.link.handleTimeout(now());
    this.flush();
  }

  private flush(): void {
    for (let d = this.link.pollOutput(); d !== undefined; d = this.link.pollOutput())
      this.socket.send(d.payload, d.to.port, d.to.address, () => undefined);
  }
}

const asHub = new Impostor(hub, { address: hub, port: CONTROL_PORT }, (_from, body): ReplyBody => {
  const resolved = (of: Address): ReplyBody => {
    const prefixes = sites.get(of);
    if (prefixes === undefined) return { kind: "refused", code: "not-found", reason: "no route" };
    const publicKey = of === owner ? asOwner.publicKey : (spokeKey ?? asHub.publicKey);
    return {
      kind: "resolved",
      owner: of,
      publicKey,
      prefixes,
      generation: generationOf(prefixes),
      lifetime: 300,
      pages: 1,
    };
  };
  switch (body.kind) {
    case "register":
      spokeKey = _from.publicKey;
      return { kind: "registered", listenPort: 51821, lifetime: 30, observePort: 0 };
    case "keepalive":
      return { kind: "kept", reflexive: undefined, age: 0, generation: generationOf(sites.get(spoke) ?? []) };
    case "resolve-owner":
      return resolved(body.owner);
    case "resolve":
      return resolved(owner);
    default:
      return { kind: "ack" };
  }
});
let spokeKey: typeof asHub.publicKey | undefined;
let epoch = 1;

const exchange = (yours: number) => ({
  epochs: { mine: epoch, yours },
  candidates: [{ address: address("192.0.2.66"), port: 51_999, kind: "host" as const }],
  mtu: 1420,
  pings: false,
  mapping: "none" as const,
  linkLocal: true,
  // the best that can be done without the key
  pskProof: epoch % 2 === 0 ? new Uint8Array(randomBytes(16)) : new Uint8Array(0),
});

const asOwner = new Impostor(owner, { port: OWNER_PORT }, (_from, body): ReplyBody => {
  if (body.kind === "exchange") return { kind: "exchanged", ...exchange(body.epochs.mine) };
  if (body.kind === "selected" && body.selected) end(true, "the spoke's daemon selected");
  return { kind: "ack" };
});

let ended = false;
function end(accepted: boolean, said: string): void {
  if (ended) return;
  ended = true;
  console.log(said);
  execFileSync("nft", ["delete", "table", "ip", TABLE]);
  process.exit(accepted ? 1 : 0);
}

execFileSync("nft", ["-f", "-"], {
  input: `table ip ${TABLE} {
  chain in { type nat hook prerouting priority -100;
    iifname wg0 ip saddr ${spoke} ip daddr ${owner} udp dport ${CONTROL_PORT} redirect to :${OWNER_PORT}; }
  chain out { type nat hook postrouting priority 100;
    oifname wg0 ip daddr ${spoke} udp sport ${OWNER_PORT} snat to ${owner}:${CONTROL_PORT}; }
}`,
});
console.log(asOwner.publicKey);

/** Refusals that another try does not change, each with its proof. */
const refusals: string[] = [];
function ask(): void {
  asOwner.ask({ kind: "exchange", ...exchange(0) }, (reply) => {
    epoch++;
    if (reply?.kind === "refused" && reply.code === "not-permitted") refusals.push(reply.reason);
    // once without and once with a proof
    if (refusals.length === 2) end(false, refusals.join("\n"));
    else setTimeout(ask, reply?.kind === "exchanged" ? 10_000 : 500);
  });
}
setInterval(() => {
  asHub.tick();
  asOwner.tick();
}, 50);
setTimeout(() => end(false, `unanswered\n${refusals.join("\n")}`), LIMIT);
ask();
