import {
  create, fromBinary, toBinary, type DescMessage, type DescMethodUnary, type MessageInitShape, type MessageShape,
} from "@bufbuild/protobuf";
import { Code, createContextKey, type ContextValues, type Transport, type UnaryResponse } from "@connectrpc/connect";

import { RequestFrameSchema, ResponseFrameSchema, type ResponseFrame } from "../gen/coffer/rpc/v1/frame_pb.js";
import { CofferError, errorOf } from "./errors.js";
import { openLink, type Link, type LinkOptions } from "./link.js";
import { randomBytes } from "./random.js";

const REVISION = 1;
const TOP_BIT = 0x80000000;
const NUMBER_BYTES = 4;
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 2000;
const PATIENCE = 250; // milliseconds beyond the time that the server was given
const LEAST_ATTEMPT = 1000;
const USER_AGENT = "coffer-typescript/0.1.0";

export interface TransportOptions {
  /** ipc://PATH, tls+tcp://HOST:PORT, tcp://HOST:PORT, wss:// or ws://; browsers have the last two. */
  addresses: string | string[];
  /** Sent with every call; a function is asked for every call, so that a rotated token is taken. */
  token?: string | (() => string | Promise<string>);
  /** Time for a call that names none, in milliseconds; 30,000 without it. */
  timeoutMs?: number;
  /** What node:tls takes: ca, cert, key. */
  tls?: Record<string, unknown>;
  /** A WebSocket where there is none. */
  webSocket?: LinkOptions["webSocket"];
  /** The largest answer; 4 MiB without it. */
  maxResponseBytes?: number;
}

export interface CofferTransport extends Transport {
  /** Lets go of the connections; calls that run fail. */
  close(): void;
}

const requestIdKey = createContextKey<Uint8Array | undefined>(undefined, { description: "the ID of an earlier call" });

/** Values of a call that repeat an earlier one, to learn whether a write happened. `id` is CofferError.requestId. */
export function withRequestId(values: ContextValues, id: string): ContextValues {
  const digits = id.replaceAll("-", "");
  return values.set(requestIdKey, Uint8Array.from({ length: 16 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16)));
}

function newRequestId(): Uint8Array {
  const id = randomBytes(16);
  new DataView(id.buffer).setUint32(0, Math.floor(Date.now() / 0x10000));
  new DataView(id.buffer).setUint16(4, Date.now() % 0x10000);
  id[6] = (id[6]! & 0x0f) | 0x70;
  id[8] = (id[8]! & 0x3f) | 0x80;
  return id;
}

function uuidText(id: Uint8Array): string {
  const digits = Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const sameBytes = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** The time for an attempt was over. */
class Late extends Error {}

interface Waiting {
  done(frame: Uint8Array): void;
  failed(error: Error): void;
}

/** An address, and the link to it that all calls share. */
class Server {
  private link: Promise<Link> | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private number = new DataView(randomBytes(4).buffer).getUint32(0) & ~TOP_BIT;

  constructor(private readonly address: string, private readonly options: LinkOptions) {}

  close(): void {
    this.link?.then((link) => link.close(), () => {});
    this.link = undefined;
  }

  /** Lets go of a link on which an answer did not come: the other calls on it are repeated over another. */
  private drop(): void {
    const { link } = this;
    this.close();
    link?.catch(() => {});
    for (const one of [...this.waiting.values()]) {
      one.failed(new Error("the connection was given up"));
    }
  }

  private open(): Promise<Link> {
    const opened = openLink(this.address, this.options, {
      message: (message) => this.take(message),
      lost: (why) => this.lose(opened, why),
    });
    opened.catch((error: Error) => this.lose(opened, error.message));
    return opened;
  }

  private take(message: Uint8Array): void {
    if (message.length >= NUMBER_BYTES) {
      const number = new DataView(message.buffer, message.byteOffset).getUint32(0);
      this.waiting.get(number)?.done(message.subarray(NUMBER_BYTES));
    }
  }

  private lose(link: Promise<Link>, why: string): void {
    if (this.link !== link) {
      return;
    }
    this.link = undefined;
    for (const one of [...this.waiting.values()]) {
      one.failed(new Error(why));
    }
  }

  /** Sends a frame and waits for the frame that `mine` takes; one that comes later belongs to nobody any more. */
  async exchange(frame: Uint8Array, within: number, signal: AbortSignal | undefined, mine: (frame: Uint8Array) => boolean): Promise<void> {
    this.number = ((this.number + 1) & ~TOP_BIT) >>> 0;
    const number = (this.number | TOP_BIT) >>> 0;
    const message = new Uint8Array(NUMBER_BYTES + frame.length);
    new DataView(message.buffer).setUint32(0, number);
    message.set(frame, NUMBER_BYTES);
    let stop = () => {};
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Late("the server did not answer in time")), within);
        const abort = () => reject(new Error("the call was cancelled"));
        signal?.addEventListener("abort", abort, { once: true });
        stop = () => {
          clearTimeout(timer);
          signal?.removeEventListener("abort", abort);
        };
        this.waiting.set(number, { done: (answer) => { if (mine(answer)) { resolve(); } }, failed: reject });
        this.link ??= this.open();
        this.link.then((link) => link.send(message), reject);
      });
    } catch (error) {
      if (error instanceof Late) {
        this.drop();
      }
      throw error;
    } finally {
      stop();
      this.waiting.delete(number);
    }
  }
}

/** What stays the same over all attempts of a call, and what became of them. */
class Call {
  attempts = 0;
  failure: CofferError | undefined;
  readonly notBefore = new Map<number, number>();

  constructor(readonly method: string, readonly payload: Uint8Array, readonly metadata: { key: string; value: Uint8Array }[],
              readonly deadline: number, readonly id: Uint8Array) {}

  left(): number {
    return this.deadline - performance.now();
  }

  failed(code: Code, reason: string, message: string): CofferError {
    return new CofferError(message, code, { reason, requestId: uuidText(this.id), attempts: this.attempts });
  }

  /** The failure of a call whose time is over: what it met last, or that. */
  over(): CofferError {
    return this.failure !== undefined && this.failure.reason !== "DEADLINE_EXCEEDED"
      ? this.failure
      : this.failed(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the time for the call is over; allow it more time");
  }

  frame(limit: number): Uint8Array {
    return toBinary(RequestFrameSchema, create(RequestFrameSchema, {
      revision: REVISION, method: this.method, payload: this.payload, timeoutMs: Math.max(1, Math.floor(limit)),
      requestId: this.id, attempt: this.attempts, metadata: this.metadata,
    }));
  }
}

/**
 * A transport for the clients of @connectrpc/connect over Coffer's own protocol. A call that gets no answer is repeated with
 * the same request ID, so that a write happens once, until its time is over.
 */
class CofferProtocol implements CofferTransport {
  // Not even a look inside shows the token or the keys of TLS.
  readonly #options: TransportOptions;
  readonly #servers: Server[];
  private first = 0; // the server that answered last
  private closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    const texts = typeof options.addresses === "string" ? options.addresses.split(",") : options.addresses;
    const link = { tls: options.tls, webSocket: options.webSocket, maxResponseBytes: options.maxResponseBytes ?? 4 << 20 };
    this.#servers = texts.map((text) => new Server(text.trim(), link));
  }

  close(): void {
    this.closed = true;
    for (const server of this.#servers) {
      server.close();
    }
  }

  stream(): Promise<never> {
    return Promise.reject(new CofferError("Coffer has no streams", Code.Unimplemented));
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>, signal: AbortSignal | undefined, timeoutMs: number | undefined,
    header: HeadersInit | undefined, input: MessageInitShape<I>, contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    if (this.closed) {
      throw new CofferError("the transport was closed; make another", Code.Canceled, { reason: "CLIENT_CLOSED" });
    }
    const call = new Call(
      `${method.parent.typeName}/${method.name}`, toBinary(method.input, create(method.input, input)),
      await this.metadata(header), performance.now() + (timeoutMs ?? this.#options.timeoutMs ?? 30_000),
      contextValues?.get(requestIdKey) ?? newRequestId());
    const frame = await this.run(call, signal);
    let message: MessageShape<O>;
    try {
      message = fromBinary(method.output, frame.payload);
    } catch {
      throw call.failed(Code.Internal, "REPLY_INVALID", "the server's answer cannot be decoded");
    }
    return { stream: false, service: method.parent, method, header: new Headers(), trailer: new Headers(), message };
  }

  private async metadata(header: HeadersInit | undefined): Promise<{ key: string; value: Uint8Array }[]> {
    const { token } = this.#options;
    const text = typeof token === "function" ? await token() : token;
    const entries: [string, string][] = [["user-agent", USER_AGENT]];
    if (text !== undefined && text !== "") {
      entries.push(["authorization", `Bearer ${text}`]);
    }
    new Headers(header).forEach((value, key) => entries.push([key, value]));
    return entries.map(([key, value]) => ({ key, value: new TextEncoder().encode(value) }));
  }

  private async run(call: Call, signal: AbortSignal | undefined): Promise<ResponseFrame> {
    for (let tries = 0, index = this.first; ; tries++, index = (index + 1) % this.#servers.length) {
      await this.pause(call, index, Math.floor(tries / this.#servers.length));
      const frame = await this.attempt(call, index, signal);
      if (frame !== undefined) {
        this.first = index;
        return frame;
      }
    }
  }

  /** Waits as long as it must before the next attempt, and fails if there is no time left for one. */
  private async pause(call: Call, index: number, rounds: number): Promise<void> {
    const random = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (rounds - 1)) * (0.5 + Math.random() / 2);
    const wait = Math.max(rounds > 0 ? random : 0, (call.notBefore.get(index) ?? 0) - performance.now(), 0);
    if (call.left() <= wait) {
      throw call.over();
    }
    if (wait > 0) {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** The answer; undefined: another attempt may help. */
  private async attempt(call: Call, index: number, signal: AbortSignal | undefined): Promise<ResponseFrame | undefined> {
    const left = call.left();
    const limit = this.#servers.length > 1 ? Math.min(left, Math.max(left / 2, LEAST_ATTEMPT)) : left;
    const request = call.frame(limit);
    let frame: ResponseFrame | undefined;
    call.attempts++;
    try {
      await this.#servers[index]!.exchange(request, limit + PATIENCE, signal, (data) => {
        frame = fromBinary(ResponseFrameSchema, data);
        return sameBytes(frame.requestId, call.id);
      });
    } catch (error) {
      if (signal?.aborted) {
        throw call.failed(Code.Canceled, "", "the call was cancelled; a write may have happened all the same");
      }
      call.failure = error instanceof Late
        ? call.failed(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", "the server did not answer in time; allow it more time")
        : call.failed(Code.Unavailable, "NOT_CONNECTED", `no server could be reached: ${(error as Error).message}; check address and server`);
      return undefined;
    }
    return this.judge(call, frame!, index);
  }

  private judge(call: Call, frame: ResponseFrame, index: number): ResponseFrame | undefined {
    if (frame.code === 0) {
      return frame;
    }
    const error = errorOf(frame, uuidText(call.id), call.attempts);
    const busy = error.code === Code.ResourceExhausted && error.retryAfterMs !== undefined;
    const late = error.code === Code.DeadlineExceeded && this.#servers.length > 1 && call.left() > FIRST_PAUSE;
    if (error.code !== Code.Unavailable && !busy && !late) {
      throw error;
    }
    call.failure = error;
    call.notBefore.set(index, performance.now() + (error.retryAfterMs ?? 0));
    return undefined;
  }
}

/** Makes a transport. It connects when it is called. */
export function createCofferTransport(options: TransportOptions): CofferTransport {
  return new CofferProtocol(options);
}
