/**
 * The control socket, bound to the overlay interface (SO_BINDTODEVICE): to the one that exists now. `wg-quick down; wg-quick up` makes another
 * interface of the same name, to which the socket of the first would never be bound again. So links and addresses are followed: the socket is opened
 * again when the interface or its address is back, and while it is not there the reason is told.
 */
import type { Config } from "../../config/config.js";
import type { Address, Endpoint } from "../../net/address.js";
import { describeReason, no, type Verdict, YES } from "../../shortcut/reasons.js";
import { overlayProblem } from "../overlay.js";
import { type DatagramPort, type DatagramSocket, type LogPort, PortError, type RoutePort } from "../ports.js";
import { asPortError } from "../runtime/task-queue.js";

export interface OverlayBindingHost {
  readonly routes: Pick<RoutePort, "links" | "addresses">;
  readonly datagrams: DatagramPort;
  readonly log: LogPort;
  datagram(from: Endpoint, payload: Uint8Array): void;
  problem(place: string, text: string): void;
  /** The overlay cannot be used any more, or is another interface, or has come back. */
  changed(verdict: Verdict): void;
}

export class OverlayBinding {
  /** Whether the overlay can be used, as last seen. */
  verdict: Verdict = YES;
  private socket: DatagramSocket | undefined;
  private ifindex: number | undefined;
  private following: Promise<void> | undefined;
  private again = false;
  private closed = false;

  constructor(
    private readonly config: Config,
    private readonly self: Address,
    private readonly host: OverlayBindingHost,
  ) {}

  /** At the start. @throws PortError when the port is taken. */
  async open(): Promise<void> {
    await this.bind();
    this.ifindex = (await this.host.routes.links()).find((l) => l.name === this.config.overlay)?.ifindex;
  }

  private async bind(): Promise<void> {
    const { config, host } = this;
    this.socket = await host.datagrams.open(
      { dev: config.overlay, address: this.self, port: config.control.port },
      (from, payload) => host.datagram(from, payload),
      (e) => host.problem(e.place, e.message),
    );
  }

  private async unbind(): Promise<void> {
    const { socket } = this;
    this.socket = undefined;
    await socket?.close();
  }

  send(to: Endpoint, payload: Uint8Array): void {
    this.socket?.send(to, payload);
  }

  /** Looks whether the overlay is what the socket is bound to. A call while it looks leads to another look. */
  follow(): Promise<void> {
    if (this.following !== undefined) {
      this.again = true;
      return this.following;
    }
    this.following = (async () => {
      do {
        this.again = false;
        await this.look();
      } while (this.again && !this.closed);
    })().finally(() => {
      this.following = undefined;
    });
    return this.following;
  }

  private async look(): Promise<void> {
    if (this.closed) return;
    const before = this.verdict;
    const { verdict, ifindex } = await this.find();
    if (this.closed) return;
    const stays = verdict.ok && before.ok && ifindex === this.ifindex && this.socket !== undefined;
    if (stays) return;
    this.verdict = verdict;
    if (verdict.ok) await this.rebind(ifindex);
    else if (verdict.reason.kind !== "overlay-down") await this.unbind();
    this.tell(before);
  }

  private async rebind(ifindex: number | undefined): Promise<void> {
    await this.unbind();
    if (this.closed) return;
    try {
      await this.bind();
      this.ifindex = ifindex;
    } catch (e) {
      const error = asPortError("control socket", e).message;
      this.verdict = no({ kind: "overlay-unbound", name: this.config.overlay, error });
    }
    if (this.closed) await this.unbind();
  }

  private tell(before: Verdict): void {
    const { verdict, host } = this;
    const text = (v: Verdict): string => (v.ok ? "" : describeReason(v.reason));
    if (!verdict.ok && text(verdict) === text(before)) return;
    if (verdict.ok) host.log.info("bound to the overlay interface again", { interface: this.config.overlay });
    else host.log.warn(text(verdict), { interface: this.config.overlay });
    host.changed(verdict);
  }

  private async find(): Promise<{ readonly verdict: Verdict; readonly ifindex: number | undefined }> {
    const { config, self, host } = this;
    const links = await host.routes.links();
    const addresses = await host.routes.addresses(config.overlay).catch((e: unknown) => {
      // it went while it was looked at, or was not there
      if (e instanceof PortError && e.code === "ENODEV") return [];
      throw e;
    });
    const reason = overlayProblem(config, self, links, addresses);
    const ifindex = links.find((l) => l.name === config.overlay)?.ifindex;
    return { verdict: reason === undefined ? YES : no(reason), ifindex };
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.following?.catch(() => undefined);
    await this.unbind();
  }
}
