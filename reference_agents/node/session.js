// One agent's talk with the coordinator over any number of connections (spec 4.2 and 5): the handshake, requests that
// are kept until they are answered, the mailbox with its cursor and acknowledgements, and coming back.

import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import WebSocket from "ws";

import { decode, encode, SUBPROTOCOLS } from "./wire.js";

const VERSION = "1.0"; // the only one spoken here (HELLO-2)
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024; // more than a peer may send (LIMIT-1)
const HANDSHAKE_MS = 10_000;
const BACK_OFF = { firstMs: 100, mostMs: 10_000, settledMs: 5_000 };
const SAID_AGAIN = { firstMs: 50, mostMs: 5_000, forMs: 10_000 }; // what has no answer now, until its caller is told
const SILENCES = 3; // so many pings without a word, and the connection is taken for dead

/** States in which a task has ended. */
export const ENDS = new Set(["completed", "failed", "canceled", "rejected"]);

// Those of ERR-1 but `unavailable`: a code that is not among them is taken for that one.
const OTHER_CODES = new Set([
  ...["version", "unsupported_kind", "auth", "forbidden", "malformed", "schema", "not_found", "gone", "stale", "not_holder"],
  ...["generation_mismatch", "idempotency_mismatch", "conflict", "denied", "deadlock", "cycle", "depth", "budget", "quota"],
  ...["no_capable_agent", "deadline", "too_large", "already_answered", "not_cancelable", "frozen"],
]);

const NOTICES = new Set([
  "task.offer",
  "task.revoke",
  "task.ask",
  "task.answer",
  "task.steer",
  "task.review",
  "task.settled",
  "conflict.opened",
  "conflict.resolved",
  "claim.granted",
  "claim.denied",
  "claim.preempt",
]);

/** A request that was refused (ERR-1). Programs go by `code`; `detail` is for a person (ERR-2). */
export class Refused extends Error {
  constructor(body, kind) {
    super(`${kind}: ${body.code}: ${body.detail}`);
    this.code = body.code;
    this.detail = body.detail;
    this.retryable = body.retryable ?? false;
    this.retryAfterMs = body.retryAfterMs;
    this.data = body.data ?? {};
  }
}

/** The connection ended before a volatile request was answered, or the session is over. */
export class Disconnected extends Error {}

export function openSocket(url, subprotocol) {
  return new WebSocket(url, [subprotocol], {
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handshakeTimeout: HANDSHAKE_MS,
  });
}

/**
 * Emits `welcome` (body), `notice` (frame, each `mseq` once), `lost` (reason) and, when nothing leads back, `ended`
 * (reason, code). `held` is asked at each handshake for the attempts that are still worked on (HELLO-6).
 */
export class Session extends EventEmitter {
  constructor({ url, agentId, store, encoding = "json", token = "", operatorToken, card, labels, credit, held, open, random }) {
    super();
    Object.assign(this, { url, agentId, store, encoding, token, operatorToken, card, labels, credit });
    this.instanceId = randomUUID();
    this.held = held ?? (() => []);
    this.open = open ?? openSocket;
    this.random = random ?? Math.random;
    this.socket = null;
    this.welcome = null; // the body of this connection's welcome, while there is one
    this.nextMseq = 1;
    this.pending = new Map(); // by frame id, in the order they were made (RPC-3)
    this.watches = new Map(); // by frame id: {task, generation, onEvent}
    this.failures = 0;
    this.over = false;
    for (const frame of store.outbox) this.pending.set(frame.id, { frame, durable: true });
  }

  get limits() {
    return this.welcome?.limits ?? this.lastLimits ?? {};
  }

  start() {
    this.#connect();
    return this;
  }

  /**
   * Send a request; the promise is that of its reply. It is kept and sent again after every handshake until that has
   * come (RPC-3), and for a while where the coordinator cannot answer now (ERR-1). With
   * `durable` it is kept over a restart of this process too; `proof` is kept with it, and not sent. With `volatile` it
   * ends with the connection.
   */
  request(kind, { task, fence, payload, body = {} } = {}, { durable = false, volatile = false, proof } = {}) {
    const frame = { id: randomUUID(), kind, task, fence, payload, body };
    return new Promise((resolve, reject) => {
      if (this.over || (volatile && !this.welcome)) return reject(new Disconnected(`${kind}: not connected`));
      if (Buffer.byteLength(payload ?? "") > (this.limits.payloadMaxBytes ?? Infinity)) {
        return reject(new Refused({ code: "too_large", detail: "the payload is larger than the coordinator takes" }, kind));
      }
      this.pending.set(frame.id, { frame, durable, volatile, resolve, reject });
      if (durable) this.store.keep(frame, proof);
      if (this.welcome) this.#send(frame);
    });
  }

  /** Send what is never answered (RPC-5); without a connection it is not sent at all. */
  tell(kind, body = {}) {
    if (this.welcome) this.#send({ id: randomUUID(), kind, body });
  }

  /** How much is taken on from now on (FLOW-2); the next hello says it anew. */
  changeCredit(credit) {
    this.credit = credit;
    this.tell("credit", credit);
  }

  /**
   * The events of a task with a generation above `fromGen`, over all connections, each once (WATCH-2, WATCH-3).
   * `onRefused` is called where it does not go on: over a new one the task may be kept no more, or none leads back.
   */
  async watch(task, onEvent, fromGen = 0, onRefused = () => {}) {
    const watch = { task, generation: fromGen, onEvent, onRefused };
    await this.#beginWatch(watch);
  }

  /** Say goodbye (HELLO-9), with `drain` so that everything goes to others (HELLO-11), and close. */
  async close({ drain = false, reason = "" } = {}) {
    if (this.welcome) {
      const answered = this.request("bye", { body: { drain, reason } }, { volatile: true }).catch(() => {});
      await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 2_000).unref())]);
    }
    this.#end("closed", "closed");
  }

  #connect() {
    if (this.over) return;
    const socket = this.open(this.url, SUBPROTOCOLS[this.encoding]);
    this.socket = socket;
    const guard = setTimeout(() => this.#giveUp("no welcome in time"), HANDSHAKE_MS);
    this.handshakeGuard = guard;
    socket.on("open", () => socket.send(encode(this.#hello(), this.encoding)));
    socket.on("message", (data) => this.#message(socket, data));
    socket.on("error", (problem) => (this.problem = problem.message));
    socket.on("close", () => {
      clearTimeout(guard);
      if (socket === this.socket) this.#lost(this.problem ?? "the connection ended");
    });
  }

  #hello() {
    const { agentId, instanceId, store, token, operatorToken, card, labels, credit } = this;
    const resume = this.lastLimits ? { lastMseq: this.nextMseq - 1 } : undefined; // only what this process has seen
    const body = {
      ...{ versions: [VERSION, VERSION], agentId, instanceId, incarnation: store.incarnation, secret: store.secret },
      ...{ token, operatorToken, card, labels, credit, resume, held: this.held() },
    };
    return { id: randomUUID(), kind: "hello", body };
  }

  #message(socket, data) {
    if (socket !== this.socket) return; // of a connection that was given up
    this.unheard = 0;
    let frames;
    try {
      frames = decode(data, this.encoding);
    } catch (problem) {
      return this.#giveUp(problem.message);
    }
    for (const frame of frames) {
      if (socket !== this.socket) return;
      if (this.welcome) this.#frame(frame);
      else this.#answerToHello(frame);
    }
  }

  #answerToHello(frame) {
    if (frame.kind === "welcome" && frame.body.version !== VERSION) return this.#giveUp(`version ${frame.body.version} is not spoken here`);
    if (frame.kind === "welcome") return this.#welcomed(frame.body);
    if (frame.kind !== "error") return this.#giveUp(`${frame.kind} before welcome`);
    const refusal = new Refused(frame.body, "hello");
    if (refusal.retryable) return this.#giveUp(refusal.message);
    this.#end(refusal.message, refusal.code);
  }

  #welcomed(body) {
    clearTimeout(this.handshakeGuard);
    this.welcome = body;
    this.lastLimits = body.limits;
    this.connectedAt = performance.now();
    this.nextMseq = body.nextMseq; // the coordinator's count, in any case (MAIL-5)
    for (const { frame, putOff } of [...this.pending.values()]) {
      clearTimeout(putOff?.timer); // it is said now, and not a second time
      this.#send(frame); // before anything new, in their order
    }
    this.emit("welcome", body);
    for (const watch of [...this.watches.values()]) this.#beginWatch(watch).catch(watch.onRefused);
    this.#watchSilence();
  }

  #frame(frame) {
    if (frame.mseq !== undefined) return this.#notice(frame);
    if (frame.kind === "bye") return this.#bye(frame.body);
    if (frame.kind === "ping") return this.#send({ id: randomUUID(), kind: "pong", re: frame.id, body: { nonce: frame.body.nonce } });
    if (frame.kind === "task.event" && this.watches.has(frame.re)) return this.#event(frame);
    if (this.pending.has(frame.re)) return this.#answered(frame);
    if (frame.kind === "error") return this.emit("problem", new Refused(frame.body, "a frame"));
    // A kind that is not known is passed over, unless the sender would rather we gave up (WIRE-7).
    if (frame.must && !frame.re) this.#giveUp(`a ${frame.kind} that has to be understood`);
  }

  #notice(frame) {
    if (frame.mseq > this.nextMseq) return this.#giveUp(`mailbox entry ${frame.mseq} where ${this.nextMseq} comes next`);
    if (frame.mseq === this.nextMseq) {
      if (!NOTICES.has(frame.kind) && frame.must) return this.#giveUp(`a ${frame.kind} that has to be understood`);
      this.nextMseq += 1; // an entry of an unknown kind has its place in the mailbox all the same
      if (NOTICES.has(frame.kind)) this.emit("notice", frame);
    }
    this.#acknowledgeSoon();
  }

  /** One acknowledgement for all that has come in one go. */
  #acknowledgeSoon() {
    if (this.ackPlanned) return;
    this.ackPlanned = true;
    setImmediate(() => {
      this.ackPlanned = false;
      this.tell("mailbox.ack", { upto: this.nextMseq - 1 });
    });
  }

  #answered(frame) {
    const entry = this.pending.get(frame.re);
    if (frame.kind === "error" && this.#putsOff(entry, frame.body)) return;
    this.pending.delete(frame.re);
    if (entry.durable) this.store.drop(frame.re);
    if (frame.kind === "error") {
      const refusal = new Refused(frame.body, entry.frame.kind);
      return entry.reject ? entry.reject(refusal) : this.emit("problem", refusal);
    }
    entry.resolve?.(frame);
  }

  /** Whether a request is said again later, since the coordinator cannot answer it now (ERR-1). */
  #putsOff(entry, { code, retryable = false, retryAfterMs }) {
    if (!retryable || OTHER_CODES.has(code)) return false;
    const now = performance.now();
    entry.putOff ??= { until: now + SAID_AGAIN.forMs, ceilingMs: SAID_AGAIN.firstMs };
    const { putOff, frame } = entry;
    // From the upper half, so that many peers do not ask again at the same moment.
    const pauseMs = retryAfterMs ?? (putOff.ceilingMs * (1 + this.random())) / 2;
    if (now + pauseMs > putOff.until) return false;
    if (retryAfterMs === undefined) putOff.ceilingMs = Math.min(putOff.ceilingMs * 2, SAID_AGAIN.mostMs);
    putOff.timer = setTimeout(() => {
      if (this.welcome && this.pending.has(frame.id)) this.#send(frame);
    }, pauseMs).unref();
    return true;
  }

  async #beginWatch(watch) {
    for (const [id, other] of this.watches) if (other === watch) this.watches.delete(id);
    const frame = { id: randomUUID(), kind: "task.watch", task: watch.task };
    this.watches.set(frame.id, watch);
    const watching = [...this.watches.values()].filter(({ task }) => task === watch.task);
    frame.body = { fromGen: Math.min(...watching.map(({ generation }) => generation)) };
    if (!this.welcome) return; // begun by the next welcome
    try {
      await new Promise((resolve, reject) => {
        this.pending.set(frame.id, { frame, volatile: true, resolve, reject });
        this.#send(frame);
      });
    } catch (problem) {
      if (problem instanceof Disconnected && !this.over) return; // it is begun again by the next welcome
      this.watches.delete(frame.id);
      throw problem;
    }
  }

  /** A connection has one watch of a task (WATCH-3): what it tells is for all who watch that. */
  #event(frame) {
    for (const [id, watch] of [...this.watches]) {
      if (watch.task !== frame.task) continue;
      if (frame.body.event !== "progress") {
        // One it has seen (STATE-5); or another's watch began behind what it has seen, and its own is on its way.
        if (frame.gen !== watch.generation + 1) continue;
        watch.generation = frame.gen;
        if (ENDS.has(frame.body.state)) this.watches.delete(id); // nothing more comes (WATCH-3)
      }
      watch.onEvent(frame);
    }
  }

  #bye({ reason }) {
    // Another process has our id now. To come back would only take it from that one again.
    if (reason === "taken_over") return this.#end("another instance has taken over", "taken_over");
    this.problem = `the coordinator said goodbye: ${reason ?? ""}`;
    this.socket.close();
  }

  #send(frame) {
    try {
      const message = encode(frame, this.encoding);
      // It would end this connection, and every one after it on which it is sent again (LIMIT-1, RPC-3).
      if (Buffer.byteLength(message) > (this.limits.messageMaxBytes ?? Infinity)) {
        throw new Refused({ code: "too_large", detail: "the message is larger than the coordinator takes" }, frame.kind);
      }
      this.socket.send(message);
    } catch (problem) {
      const entry = this.pending.get(frame.id);
      this.pending.delete(frame.id);
      if (entry?.durable) this.store.drop(frame.id);
      if (entry?.reject) entry.reject(problem);
      else this.emit("problem", problem);
    }
  }

  /** A dead connection may never say so: ping where it is silent, and give it up where it stays so. */
  #watchSilence() {
    const everyMs = this.limits.heartbeatMs ?? 10_000;
    clearInterval(this.silence);
    this.silence = setInterval(() => {
      // Counted and not timed: a process that stood still for as long has asked nobody, and may not have read on yet.
      if (this.unheard >= SILENCES) return this.#giveUp("the coordinator is silent");
      this.unheard += 1;
      this.request("ping", {}, { volatile: true }).catch(() => {});
    }, everyMs);
  }

  #giveUp(reason) {
    this.problem = reason;
    const socket = this.socket;
    this.#lost(reason);
    socket.terminate();
  }

  #lost(reason) {
    clearTimeout(this.handshakeGuard);
    clearInterval(this.silence);
    const lasted = this.welcome && performance.now() - this.connectedAt > BACK_OFF.settledMs;
    this.socket = null;
    this.welcome = null;
    this.problem = undefined;
    for (const [id, { volatile, reject }] of this.pending) {
      if (!volatile) continue;
      this.pending.delete(id);
      reject?.(new Disconnected(reason));
    }
    if (this.over) return;
    this.emit("lost", reason);
    this.failures = lasted ? 0 : this.failures + 1;
    const ceiling = Math.min(BACK_OFF.mostMs, BACK_OFF.firstMs * 2 ** this.failures);
    // Drawn evenly below the ceiling, so that many peers do not come back at the same moment.
    this.retry = setTimeout(() => this.#connect(), this.random() * ceiling);
  }

  #end(reason, code) {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.retry);
    const socket = this.socket;
    this.#lost(reason);
    socket?.close();
    setTimeout(() => socket?.terminate(), 1_000).unref();
    for (const { reject } of this.pending.values()) reject?.(new Disconnected(reason));
    this.pending.clear();
    for (const { onRefused } of this.watches.values()) onRefused(new Disconnected(reason));
    this.watches.clear();
    this.emit("ended", reason, code);
  }
}
