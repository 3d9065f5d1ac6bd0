// The scenario of the client in TypeScript; tests/conformance/clients_test.py gives the steps.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { format } from "node:util";

import { Code } from "@connectrpc/connect";
import { WebSocket } from "ws";

import { SecretService } from "../gen/coffer/v1/secret_pb.js";
import { Client, CofferError, type Resolved, type TransportOptions } from "../src/index.js";

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Step = any;
let client: Client;
let resolved: Resolved;
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

const steps: Record<string, (step: Step) => Promise<unknown> | unknown> = {
  open({ addresses, token, timeout, ca }) {
    client?.close();
    const options: TransportOptions = { addresses, token, timeoutMs: timeout * 1000, webSocket: WebSocket as never };
    client = new Client(ca === undefined ? options : { ...options, tls: { ca: readFileSync(ca) } });
    return {};
  },
  async resolve({ texts, environment, timeout, pending }) {
    resolved = await client.resolve(texts, { environment, ...(pending === undefined ? {} : { pending }),
      ...(timeout === undefined ? {} : { timeoutMs: timeout * 1000 }) });
    const pairs = resolved.texts().map((text) => [text, resolved.get(text)] as const);
    return { values: Object.fromEntries(pairs.map(([text, value]) => [text, value === null ? null : base64(value.bytes())])) };
  },
  mask: ({ text }) => ({ text: resolved.mask(text) }),
  shown() {
    const value = resolved.get(resolved.texts()[0]!)!;
    let refused = "";
    try {
      JSON.stringify(resolved.masks);
    } catch (error) {
      refused = String(error);
    }
    return { text: `${value} ${format("%o %O %s %j", value, resolved, value, "x")} ${format(resolved)} ${format("%o %O", client, client.transport)} ${refused}` };
  },
  async create({ name, environment, values }) {
    const pairs = Object.entries(values as Record<string, string>).map(([key, value]) => ({ key, value: Buffer.from(value, "base64") }));
    const made = await client.service(SecretService).createSecret({ name, environment, values: pairs });
    return { version: Number(made.secret!.version) };
  },
  async get({ name, environment }) {
    const found = await client.service(SecretService).getSecret({ name, environment });
    return { keys: found.secret!.keys.map((key) => key.name) };
  },
  async together({ count, text, environment }) {
    const all = await Promise.all(Array.from({ length: count }, () => client.resolve([text], { environment })));
    return { values: all.map((one) => base64(one.get(text)!.bytes())) };
  },
};

/** "NOT_FOUND" for NotFound. */
const codeName = (code: Code) => code === Code.Canceled ? "CANCELLED" : Code[code]!.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();

for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  let answer: unknown;
  try {
    answer = await steps[step.do]!(step);
  } catch (error) {
    if (!(error instanceof CofferError)) {
      throw error;
    }
    answer = { error: { code: codeName(error.code), reason: error.reason, message: error.message, attempts: error.attempts,
      faults: error.faults.map((fault) => [fault.reference, fault.outcome]), fields: error.fields.map(({ field }) => field) } };
  }
  console.log(JSON.stringify(answer));
}
client!.close();
