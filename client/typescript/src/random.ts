/** Random bytes of the system: what browsers and newer Node have as a global, and Node 18 as a module. */
const source: Pick<Crypto, "getRandomValues"> = globalThis.crypto ?? (await import("node:crypto")).webcrypto;

export function randomBytes(count: number): Uint8Array {
  return source.getRandomValues(new Uint8Array(count));
}
