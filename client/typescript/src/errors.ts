import { fromBinary } from "@bufbuild/protobuf";
import { type Any } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { type ResponseFrame } from "../gen/coffer/rpc/v1/frame_pb.js";

/** One wrong field of a request. */
export interface FieldError {
  field: string;
  description: string;
}

/** One reference or expression that has no value. */
export interface Fault {
  reference: string;
  outcome: string;
  message: string;
  nearMisses: string[];
}

interface Parts {
  reason?: string;
  facts?: Record<string, string>;
  fields?: FieldError[];
  retryAfterMs?: number;
  requestId?: string;
  attempts?: number;
  faults?: Fault[];
}

/**
 * A call that failed. Its texts hold no value of a secret. Act on `reason` (docs/errors.md), and on one that you do not know
 * on `code`.
 */
export class CofferError extends ConnectError {
  readonly reason: string;
  readonly facts: Record<string, string>;
  readonly fields: FieldError[];
  /** Wait so long before a repeat; undefined: a repeat may not help. */
  readonly retryAfterMs: number | undefined;
  /** The call's: a repeat with it (withRequestId) tells whether a write happened, and the server's log has it. */
  readonly requestId: string;
  /** How often the call was sent. */
  readonly attempts: number;
  /** Of a resolve: what cannot be had, and why. */
  readonly faults: Fault[];

  constructor(message: string, code: Code, parts: Parts = {}) {
    super(message, code);
    this.name = "CofferError";
    this.reason = parts.reason ?? "";
    this.facts = parts.facts ?? {};
    this.fields = parts.fields ?? [];
    this.retryAfterMs = parts.retryAfterMs;
    this.requestId = parts.requestId ?? "";
    this.attempts = parts.attempts ?? 0;
    this.faults = parts.faults ?? [];
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof Error && value.name === "CofferError";
  }
}

/** A duration in milliseconds. */
export function milliseconds(duration: { seconds: bigint; nanos: number } | undefined): number | undefined {
  return duration === undefined ? undefined : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

function addDetail(detail: Any, parts: Parts): void {
  switch (detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1)) {
    case ErrorInfoSchema.typeName: {
      const info = fromBinary(ErrorInfoSchema, detail.value);
      parts.reason = info.reason;
      parts.facts = info.metadata;
      break;
    }
    case BadRequestSchema.typeName:
      parts.fields = fromBinary(BadRequestSchema, detail.value).fieldViolations.map(({ field, description }) => ({ field, description }));
      break;
    case RetryInfoSchema.typeName:
      parts.retryAfterMs = milliseconds(fromBinary(RetryInfoSchema, detail.value).retryDelay);
      break;
    default: // a detail that this client does not know
  }
}

/** The error that a response frame tells. */
export function errorOf(frame: ResponseFrame, requestId: string, attempts: number): CofferError {
  const parts: Parts = { requestId, attempts };
  for (const detail of frame.details) {
    addDetail(detail, parts);
  }
  const known = Code[frame.code] !== undefined;
  return new CofferError(frame.message, known ? frame.code : Code.Unknown, parts);
}
