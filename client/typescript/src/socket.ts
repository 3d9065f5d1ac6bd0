import * as net from "node:net";
import * as tls from "node:tls";

import { type Link, type LinkEvents, type LinkOptions } from "./link.js";

// Greetings and lengths of the Scalability Protocols (docs/protocol.md, section 1).
const CLIENT_GREETING = Buffer.from([0, 0x53, 0x50, 0, 0, 0x30, 0, 0]);
const SERVER_GREETING = Buffer.from([0, 0x53, 0x50, 0, 0, 0x31, 0, 0]);
const NUMBER_BYTES = 4;

/** Takes messages out of what comes in pieces. */
class Reader {
  private pieces: Buffer[] = [];
  private size = 0;
  private greeted = false;

  constructor(private readonly ipc: boolean, private readonly largest: number, private readonly events: LinkEvents,
              private readonly ready: () => void) {}

  /** Throws if what came is no message. */
  add(piece: Buffer): void {
    this.pieces.push(piece);
    this.size += piece.length;
    if (!this.greeted) {
      const greeting = this.take(SERVER_GREETING.length);
      if (greeting === undefined) {
        return;
      }
      if (!greeting.equals(SERVER_GREETING)) {
        throw new Error("what answers is no server of Coffer");
      }
      this.greeted = true;
      this.ready();
    }
    while (this.takeMessage()) {
      // Several may have come together.
    }
  }

  private joined(): Buffer {
    const all = this.pieces.length === 1 ? this.pieces[0]! : Buffer.concat(this.pieces);
    this.pieces = [all];
    return all;
  }

  private take(count: number): Buffer | undefined {
    if (this.size < count) {
      return undefined;
    }
    const all = this.joined();
    this.pieces = [all.subarray(count)];
    this.size -= count;
    return all.subarray(0, count);
  }

  private takeMessage(): boolean {
    const header = this.ipc ? 9 : 8;
    if (this.size < header) {
      return false;
    }
    const start = this.joined();
    const length = start.readBigUInt64BE(header - 8);
    if ((this.ipc && start[0] !== 1) || length < NUMBER_BYTES || length > this.largest + NUMBER_BYTES) {
      throw new Error("the server sent what is no message, or one that is larger than it may be");
    }
    const whole = this.take(header + Number(length));
    if (whole !== undefined) {
      this.events.message(new Uint8Array(whole.subarray(header)));
    }
    return whole !== undefined;
  }
}

function connect(scheme: string, place: string, options: LinkOptions): net.Socket {
  if (scheme === "ipc") {
    return net.connect(place);
  }
  const colon = place.lastIndexOf(":");
  const host = place.slice(0, colon).replace(/^\[|\]$/g, "");
  const port = Number(place.slice(colon + 1));
  if (scheme !== "tls+tcp") {
    return net.connect({ host, port, noDelay: true, keepAlive: true });
  }
  const name = net.isIP(host) === 0 ? { servername: host } : {};
  return tls.connect({ host, port, ...name, ALPNProtocols: ["coffer/1"], ...options.tls, minVersion: "TLSv1.3" });
}

function frameOf(message: Uint8Array, ipc: boolean): Buffer {
  const header = Buffer.alloc(ipc ? 9 : 8, 1);
  header.writeBigUInt64BE(BigInt(message.length), header.length - 8);
  return Buffer.concat([header, message]);
}

export function openSocket(address: string, options: LinkOptions, events: LinkEvents): Promise<Link> {
  const [scheme, place] = address.split("://");
  if (place === undefined || place === "" || !["ipc", "tcp", "tls+tcp"].includes(scheme!)) {
    return Promise.reject(new Error("this is no address: ipc://PATH, tls+tcp://HOST:PORT, tcp://HOST:PORT, wss:// or ws://"));
  }
  return new Promise((resolve, reject) => {
    const socket = connect(scheme!, place, options);
    const ipc = scheme === "ipc";
    const link: Link = { send: (message) => socket.write(frameOf(message, ipc)), close: () => socket.end() };
    const reader = new Reader(ipc, options.maxResponseBytes, events, () => resolve(link));
    let why = "the server closed the connection";
    socket.on(scheme === "tls+tcp" ? "secureConnect" : "connect", () => socket.write(CLIENT_GREETING));
    socket.on("data", (piece: Buffer) => {
      try {
        reader.add(piece);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on("error", (error) => { why = error.message; });
    socket.on("close", () => {
      reject(new Error(why));
      events.lost(why);
    });
    socket.unref();
  });
}
