// A coordinator's end of a connection, played by a test.

import { EventEmitter } from "node:events";

import { decode, encode } from "../wire.js";

const LIMITS = { payloadMaxBytes: 1_000, heartbeatMs: 60_000, leaseMs: 180_000 };

/** What a session opens: it keeps what was sent, and says what the test has it say. */
export class FakeSocket extends EventEmitter {
  constructor(url, subprotocol) {
    super();
    this.encoding = subprotocol.split("+")[1];
    this.sent = [];
    this.closed = false;
    this.waiting = [];
    setImmediate(() => this.closed || this.emit("open"));
  }

  send(data) {
    if (this.closed) throw new Error("the connection is closed");
    for (const frame of decode(data, this.encoding)) {
      this.sent.push(frame);
      if (frame.kind === "bye") setImmediate(() => this.close());
      this.waiting = this.waiting.filter(({ kind, resolve }) => kind !== frame.kind || resolve(frame));
    }
  }

  say(...frames) {
    const numbered = frames.map((frame, place) => ({ id: `c${place}`, ...frame }));
    this.emit("message", encode(numbered, this.encoding));
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.emit("close");
  }

  terminate() {
    this.close();
  }

  kinds() {
    return this.sent.map(({ kind }) => kind);
  }

  /** The newest frame of this kind, or the next one. */
  async next(kind) {
    const there = this.sent.findLast((frame) => frame.kind === kind);
    return there ?? new Promise((resolve) => this.waiting.push({ kind, resolve }));
  }

  async welcome(body = {}) {
    const hello = await this.next("hello");
    const usual = { version: "1.0", namespace: "main", epoch: 1, durability: "fsync", limits: LIMITS, nextMseq: 1 };
    this.say({ kind: "welcome", re: hello.id, body: { ...usual, ...body } });
    return hello;
  }
}

/** Opens one socket after the other; the test takes them in their order. */
export class Sockets {
  constructor() {
    this.opened = [];
    this.waiting = [];
    this.open = (url, subprotocol) => {
      const socket = new FakeSocket(url, subprotocol);
      const waiter = this.waiting.shift();
      if (waiter) waiter(socket);
      else this.opened.push(socket);
      return socket;
    };
  }

  async next() {
    return this.opened.shift() ?? new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** A turn of the event loop, in which what was planned for the next one happens. */
export function turn() {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}
