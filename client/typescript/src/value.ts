/** The bytes of one value of a secret. It shows itself nowhere: not as a text, not in JSON, not in console.log. */
export class Value {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The value, which must not be changed. */
  bytes(): Uint8Array {
    return this.#bytes;
  }

  /** The value as text; one that is not UTF-8 is a TypeError, which does not show it. */
  text(): string {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.#bytes);
  }

  /** The number of its bytes. */
  get length(): number {
    return this.#bytes.length;
  }

  toString(): string {
    return `<value of ${this.#bytes.length} bytes>`;
  }

  toJSON(): never {
    throw new TypeError("a value of a secret is not written as JSON");
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}
