// Client of Coffer, which hands out the credentials that an action of a workflow may have.
export { Client, Resolved, type Query } from "./client.js";
export { CofferError, type Fault, type FieldError } from "./errors.js";
export { createCofferTransport, withRequestId, type CofferTransport, type TransportOptions } from "./transport.js";
export { Value } from "./value.js";
