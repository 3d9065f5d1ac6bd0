import { create, type DescService } from "@bufbuild/protobuf";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import {
  Outcome, ResolveItemSchema, ResolveService, type ResolveItem, type ResolveResult,
} from "../gen/coffer/v1/resolve_pb.js";
import { CofferError, milliseconds } from "./errors.js";
import { createCofferTransport, type CofferTransport, type TransportOptions } from "./transport.js";
import { Value } from "./value.js";

const LEAST_MASKED = 4; // bytes; shorter values would mask half of a text

/** What is wanted, and where. */
export interface Query {
  /** The token's own without it. */
  workspace?: string;
  /** "default" without it. */
  environment?: string;
  workflowId?: string;
  runId?: string;
  action?: string;
  /** Of a write, or of an earlier result: never answer from an older state. */
  consistencyToken?: string;
  timeoutMs?: number;
  /**
   * Where a token has to be fetched first: "wait", which it is without this: the server waits for it; "poll": it is asked
   * again, when it advises to, until `timeoutMs` (30 s without it) are over; "fail": CofferError has the reason PENDING.
   */
  pending?: "wait" | "poll" | "fail";
}

/** Between two questions about what is being fetched. */
const LEAST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5000;
const POLL_MS = 30000;

/** What was asked for, by the texts that asked. null: the expression's value is null. */
export class Resolved {
  constructor(
    private readonly values: Map<string, Value | null>,
    /** All values by secret and key, also those of expressions that the workflow engine evaluates. */
    readonly secrets: Map<string, Map<string, Value>>,
    /** Every value that may not be shown. */
    readonly masks: Value[],
    /** The state that the values were read at. */
    readonly consistencyToken: string,
  ) {}

  /** The value; a text that was not asked for, or that the workflow engine evaluates, is an error. */
  get(text: string): Value | null {
    const value = this.values.get(text);
    if (value === undefined) {
      throw new RangeError("this was not asked for, or is an expression that Coffer does not evaluate");
    }
    return value;
  }

  texts(): string[] {
    return [...this.values.keys()];
  }

  /** The text with every value that has at least 4 bytes replaced by ***, the longest first. */
  mask(text: string): string {
    let masked = text;
    for (const value of [...this.masks].sort((a, b) => b.length - a.length)) {
      if (value.length >= LEAST_MASKED) {
        masked = masked.replaceAll(new TextDecoder("utf-8", { ignoreBOM: true }).decode(value.bytes()), "***");
      }
    }
    return masked;
  }
}

/** Resolves references and expressions; `service` gives the methods of any service. */
export class Client {
  readonly transport: CofferTransport;

  constructor(options: TransportOptions) {
    this.transport = createCofferTransport(options);
  }

  close(): void {
    this.transport.close();
  }

  service<T extends DescService>(service: T): ServiceClient<T> {
    return createClient(service, this.transport);
  }

  /**
   * The values of references ("slack.SLACK_BOT_TOKEN") and expressions ("${{ SECRETS.a.K || 'none' }}"), from one state. If
   * one cannot be had, nothing is returned: CofferError.faults says all that is wrong.
   */
  async resolve(texts: string[], query: Query = {}): Promise<Resolved> {
    const item = itemOf(texts, query);
    const until = Date.now() + (query.timeoutMs ?? POLL_MS);
    let last: CofferError | undefined;
    for (;;) {
      try {
        return await this.ask(item, query.timeoutMs === undefined ? undefined : Math.max(until - Date.now(), 1));
      } catch (error) {
        const pending = error instanceof CofferError && error.reason === "PENDING";
        const pause = pending ? Math.min(Math.max(error.retryAfterMs ?? 0, LEAST_PAUSE_MS), LONGEST_PAUSE_MS) : 0;
        if (last !== undefined && error instanceof CofferError && error.code === Code.DeadlineExceeded) {
          throw last; // it is what was still being waited for
        }
        if (!pending || query.pending !== "poll" || Date.now() + pause >= until) {
          throw error;
        }
        last = error;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  private async ask(item: ResolveItem, timeoutMs: number | undefined): Promise<Resolved> {
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    const { results } = await this.service(ResolveService).resolve({ items: [item] }, options);
    const [result] = results;
    if (result === undefined || results.length !== 1 || result.itemIndex !== 0) {
      throw new CofferError("the server answered what was not asked", Code.Internal, { reason: "REPLY_INVALID" });
    }
    check(result);
    return resolvedOf(item, result);
  }
}

function referenceOf(text: string): { name: string; key: string } {
  const dot = text.lastIndexOf(".");
  if (dot <= 0 || dot === text.length - 1) {
    throw new CofferError("a reference is NAME.KEY, an expression ${{ SECRETS.NAME.KEY }}", Code.InvalidArgument);
  }
  return { name: text.slice(0, dot), key: text.slice(dot + 1) };
}

function itemOf(texts: string[], query: Query): ResolveItem {
  return create(ResolveItemSchema, {
    workspace: query.workspace ?? "", environments: [query.environment ?? ""], consistencyToken: query.consistencyToken ?? "",
    references: texts.filter((text) => !text.includes("${{")).map(referenceOf),
    expressions: texts.filter((text) => text.includes("${{")),
    allowPending: query.pending !== undefined && query.pending !== "wait",
    run: { workflowId: query.workflowId ?? "", runId: query.runId ?? "", action: query.action ?? "" },
  });
}

const outcomeName = (outcome: Outcome) => Outcome[outcome] ?? `UNKNOWN_${outcome}`;

/** Whether the item succeeded is said by its status; an outcome that is not known is an error all the same. */
function check(result: ResolveResult): void {
  const unknown = result.outcomes.find((outcome) => Outcome[outcome] === undefined);
  const code = result.status?.code ?? 0;
  if (code === 0 && unknown === undefined) {
    return;
  }
  const retryAfterMs = milliseconds(result.status?.retryDelay);
  throw new CofferError(
    code === 0 ? "the server tells an outcome that this client does not know; take a newer one" : result.status!.message,
    code === 0 || Code[code] === undefined ? Code.Unknown : code, {
      reason: outcomeName(code === 0 ? unknown! : result.status!.outcome), attempts: 1,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      faults: result.faults.map((fault) => ({
        reference: fault.reference === undefined ? "" : `${fault.reference.name}.${fault.reference.key}`,
        outcome: outcomeName(fault.outcome), message: fault.message, nearMisses: fault.nearMisses,
      })),
    });
}

function resolvedOf(item: ResolveItem, result: ResolveResult): Resolved {
  const secrets = new Map(result.secrets.map(({ name, values }) => [
    name, new Map(values.map(({ key, value }) => [key, new Value(value)]))]));
  const values = new Map<string, Value | null>();
  for (const { name, key } of item.references) {
    const value = secrets.get(name)?.get(key);
    if (value !== undefined) {
      values.set(`${name}.${key}`, value);
    }
  }
  result.expressions.forEach(({ result: found }, i) => {
    if (found.case === "value") {
      values.set(item.expressions[i]!, new Value(found.value));
    } else if (found.case === "nullValue") {
      values.set(item.expressions[i]!, null);
    }
  });
  const masks = [...secrets.values()].flatMap((keys) => [...keys.values()]);
  return new Resolved(values, secrets, [...masks, ...result.additionalMasks.map((mask) => new Value(mask))], result.consistencyToken);
}
