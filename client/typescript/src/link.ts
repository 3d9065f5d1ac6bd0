/** One connection, which carries several calls at once. */
export interface Link {
  /** Sends a message of the Scalability Protocols: four bytes of its number, and a frame. */
  send(message: Uint8Array): void;
  close(): void;
}

export interface LinkEvents {
  message(message: Uint8Array): void;
  /** The connection is gone; nothing comes after that. */
  lost(why: string): void;
}

/** What a link needs to be opened. `tls` is what node:tls takes, and of no use in browsers. */
export interface LinkOptions {
  tls?: Record<string, unknown> | undefined;
  webSocket?: (new (url: string, protocol: string) => WebSocket) | undefined;
  maxResponseBytes: number;
}

export const SUB_PROTOCOL = "rep.sp.nanomsg.org";

/** A link over a WebSocket, in browsers and elsewhere. */
function openWebSocket(address: string, options: LinkOptions, events: LinkEvents): Promise<Link> {
  const Constructor = options.webSocket ?? globalThis.WebSocket;
  if (Constructor === undefined) {
    return Promise.reject(new Error("there is no WebSocket here; give one as the option webSocket"));
  }
  return new Promise((resolve, reject) => {
    const socket = new Constructor(address, SUB_PROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => resolve({ send: (message) => socket.send(message), close: () => socket.close() });
    socket.onerror = () => reject(new Error("the WebSocket cannot be opened"));
    socket.onclose = () => {
      reject(new Error("the WebSocket cannot be opened"));
      events.lost("the WebSocket was closed");
    };
    socket.onmessage = (event) => events.message(new Uint8Array(event.data as ArrayBuffer));
  });
}

/** Opens a link to ws://, wss://, tcp://, tls+tcp:// or ipc://; the latter three in Node. */
export async function openLink(address: string, options: LinkOptions, events: LinkEvents): Promise<Link> {
  if (address.startsWith("ws://") || address.startsWith("wss://")) {
    return openWebSocket(address, options, events);
  }
  const { openSocket } = await import("./socket.js");
  return openSocket(address, options, events);
}
