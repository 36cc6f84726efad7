import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { afterEach, beforeEach } from "node:test";

import { Disconnected, Refused, Session } from "../session.js";
import { Fleeting, Store } from "../store.js";
import { Sockets, turn } from "./socket.js";

let directory;
let sockets;
let sessions;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "a2a-node-"));
  sockets = new Sockets();
  sessions = [];
});

afterEach(async () => {
  for (const session of sessions) await session.close();
  fs.rmSync(directory, { recursive: true });
});

async function connected(settings = {}, welcome = {}) {
  const { session, socket } = await greeting(settings);
  const hello = await socket.welcome(welcome);
  return { session, socket, hello };
}

async function greeting(settings = {}) {
  const store = settings.store ?? new Store(directory, "node");
  const session = new Session({ url: "ws://x", agentId: "node", open: sockets.open, random: () => 0, ...settings, store });
  sessions.push(session);
  session.start();
  return { session, socket: await sockets.next() };
}

const offer = (mseq, more = {}) => ({ kind: "task.offer", mseq, task: `main-${mseq}`, fence: mseq, payload: "[]", body: {}, ...more });

for (const encoding of ["json", "msgpack"]) {
  test(`${encoding}: the first frame is the hello, with a secret that was kept before it was shown`, async () => {
    const { hello } = await connected({ encoding, token: "door", card: { name: "n" }, credit: { tasks: 2, frames: 8 } });
    const { body } = hello;
    assert.deepEqual([body.versions, body.agentId, body.incarnation], [["1.0", "1.0"], "node", 1]);
    assert.deepEqual([body.token, body.card, body.credit, body.held], ["door", { name: "n" }, { tasks: 2, frames: 8 }, []]);
    assert.equal(body.secret, fs.readFileSync(path.join(directory, "node.secret"), "utf8"));
    assert.equal(fs.statSync(path.join(directory, "node.secret")).mode & 0o077, 0);
    assert.equal("resume" in body, false);
  });

  test(`${encoding}: a request has the reply that names it`, async () => {
    const { session, socket } = await connected({ encoding });
    const reply = session.request("task.get", { task: "main-7" });
    const { id } = await socket.next("task.get");
    socket.say({ kind: "ok", re: "another" }, { kind: "task.found", re: id, payload: "[1]", body: { view: {} } });
    assert.equal((await reply).payload, "[1]");
  });
}

test("every start has a greater incarnation and another instance, and the same secret", async () => {
  const first = await connected();
  const second = await connected();
  assert.equal(second.hello.body.incarnation, first.hello.body.incarnation + 1);
  assert.notEqual(second.hello.body.instanceId, first.hello.body.instanceId);
  assert.equal(second.hello.body.secret, first.hello.body.secret);
});

test("processes of one principal share its secret", () => {
  assert.equal(new Fleeting(directory, "node#1").secret, new Fleeting(directory, "node#2").secret);
});

test("where another process is quicker its secret is the one", (context) => {
  context.mock.method(fs, "linkSync", (_, file) => {
    fs.writeFileSync(file, "the other's");
    throw Object.assign(new Error("it is there"), { code: "EEXIST" });
  });
  assert.equal(new Store(directory, "node").secret, "the other's");
  assert.deepEqual(fs.readdirSync(directory).filter((name) => name.endsWith(".new")), []);
});

test("of a request that was answered nothing stays", () => {
  const store = new Store(directory, "node");
  store.keep({ id: "r", kind: "task.report" }, "shown");
  store.drop("r");
  const { outbox, proofs } = new Store(directory, "node");
  assert.deepEqual([outbox, proofs], [[], {}]);
});

test("a refusal is an error with its code and data", async () => {
  const { session, socket } = await connected();
  const reply = session.request("task.confirm", { task: "main-7" });
  const { id } = await socket.next("task.confirm");
  socket.say({ kind: "error", re: id, body: { code: "conflict", detail: "no", retryable: true, data: { rev: 1 } } });
  await assert.rejects(reply, (problem) => problem instanceof Refused && problem.code === "conflict" && problem.data.rev === 1);
});

test("what was not answered is sent again after the next handshake, in its order, and volatile requests are not", async () => {
  const { session, socket } = await connected();
  const delegated = session.request("task.delegate", { body: { key: "1" } });
  const beat = session.request("task.heartbeat", {}, { volatile: true });
  const answered = session.request("task.get");
  session.request("task.cancel", { task: "main-1" }).catch(() => {});
  socket.say({ kind: "task.found", re: (await socket.next("task.get")).id, body: {} });
  await answered;
  socket.close();
  await assert.rejects(beat, Disconnected);
  const again = await sockets.next();
  session.request("task.list").catch(() => {}); // made before the handshake is over, after the others
  await again.welcome();
  assert.deepEqual(again.kinds(), ["hello", "task.delegate", "task.cancel", "task.list"]);
  assert.equal(again.sent[1].id, socket.sent.find(({ kind }) => kind === "task.delegate").id);
  again.say({ kind: "task.created", re: again.sent[1].id, task: "main-9", body: {} });
  assert.equal((await delegated).task, "main-9");
});

test("a report without an answer outlasts the process", async () => {
  const { session, socket } = await connected();
  session.request("task.report", { task: "main-7", fence: 8, payload: "[]", body: { outcome: "completed" } }, { durable: true }).catch(() => {});
  const sent = await socket.next("task.report");
  const kept = new Store(directory, "node"); // as the next process finds it
  assert.deepEqual(kept.outbox, [sent]);
  const second = await connected({ store: kept });
  assert.deepEqual(await second.socket.next("task.report"), sent);
  second.socket.say({ kind: "task.verdict", re: sent.id, task: "main-7", fence: 8, body: { verdict: "duplicate" } });
  assert.deepEqual(new Store(directory, "node").outbox, []);
});

test("mailbox entries come once, in their order, and are acknowledged together", async () => {
  const { session, socket } = await connected();
  const seen = [];
  session.on("notice", ({ mseq }) => seen.push(mseq));
  socket.say(offer(1), offer(2), offer(2), offer(1), offer(3));
  await turn();
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual((await socket.next("mailbox.ack")).body, { upto: 3 });
  assert.equal(socket.kinds().filter((kind) => kind === "mailbox.ack").length, 1);
});

test("after a reconnection the mailbox goes on behind what has come", async () => {
  const { session, socket } = await connected();
  const seen = [];
  session.on("notice", ({ mseq }) => seen.push(mseq));
  socket.say(offer(1), offer(2));
  socket.close();
  const again = await sockets.next();
  const hello = await again.welcome({ nextMseq: 2 });
  assert.deepEqual(hello.body.resume, { lastMseq: 2 });
  again.say(offer(2), offer(3));
  assert.deepEqual(seen, [1, 2, 2, 3]); // the coordinator's count: what it begins with is told apart by its fence
});

test("an entry that leaves a gap ends the connection, and nothing of it is taken", async () => {
  const { session, socket } = await connected();
  const seen = [];
  session.on("notice", ({ mseq }) => seen.push(mseq));
  socket.say(offer(2), offer(1));
  assert.ok(socket.closed);
  assert.deepEqual(seen, []);
  await (await sockets.next()).welcome();
});

test("an entry of an unknown kind is passed over, and has its place", async () => {
  const { session, socket } = await connected();
  const seen = [];
  session.on("notice", ({ mseq }) => seen.push(mseq));
  socket.say({ kind: "task.cfp", mseq: 1 }, offer(2), { kind: "task.cfp" });
  await turn();
  assert.deepEqual(seen, [2]);
  assert.deepEqual((await socket.next("mailbox.ack")).body, { upto: 2 });
  assert.equal(socket.closed, false);
});

test("a kind that has to be understood ends the connection", async () => {
  for (const more of [{}, { mseq: 1 }]) {
    const { socket } = await connected();
    socket.say({ kind: "task.cfp", must: true, ...more });
    assert.ok(socket.closed);
    await sockets.next();
  }
});

test("a message that is not of its encoding ends the connection", async () => {
  const { socket } = await connected();
  socket.emit("message", "{");
  assert.ok(socket.closed);
  await sockets.next();
});

test("who was taken over does not come back", async () => {
  const { session, socket } = await connected();
  const ended = new Promise((resolve) => session.on("ended", (reason, code) => resolve(code)));
  socket.say({ kind: "bye", body: { reason: "taken_over" } });
  assert.equal(await ended, "taken_over");
  await assert.rejects(session.request("task.get"), Disconnected);
});

test("any other goodbye, and any other end, is followed by a new connection", async () => {
  const { socket } = await connected();
  socket.say({ kind: "bye", body: { reason: "the coordinator stops" } });
  await (await sockets.next()).welcome();
});

test("a hello that is refused for good ends the session, one that may be tried again does not", async () => {
  const first = await greeting();
  const ended = new Promise((resolve) => first.session.on("ended", (reason, code) => resolve(code)));
  await first.socket.next("hello");
  first.socket.say({ kind: "error", body: { code: "auth", detail: "no" } });
  assert.equal(await ended, "auth");
  const second = await greeting();
  await second.socket.next("hello");
  second.socket.say({ kind: "error", body: { code: "denied", detail: "another is there", retryable: true } });
  await (await sockets.next()).welcome();
});

test("a payload beyond the coordinator's limit is refused here", async () => {
  const { session, socket } = await connected();
  await assert.rejects(session.request("task.report", { payload: "x".repeat(1_001) }), { code: "too_large" });
  assert.equal(socket.kinds().includes("task.report"), false);
});

test("a message beyond the coordinator's limit is refused here, now and on another connection", { timeout: 10_000 }, async () => {
  const limits = { payloadMaxBytes: 1_000, messageMaxBytes: 1_500, heartbeatMs: 60_000, leaseMs: 180_000 };
  const { session, socket } = await connected({}, { limits });
  await assert.rejects(session.request("task.report", { payload: '"'.repeat(900) }), { code: "too_large" });
  assert.equal(socket.kinds().includes("task.report"), false);
  const reply = session.request("task.report", { payload: "x".repeat(900) });
  await socket.next("task.report");
  socket.close();
  const refused = assert.rejects(reply, { code: "too_large" });
  await (await sockets.next()).welcome({ limits: { ...limits, messageMaxBytes: 800 } });
  await refused;
});

const NOT_NOW = { code: "unavailable", detail: "later", retryable: true };

/** Lets each pause be over at once, by the clock as well; returns how long they were. */
function hasty(context, session) {
  const pauses = [];
  let now = performance.now();
  context.mock.method(performance, "now", () => now);
  context.mock.method(globalThis, "setTimeout", (work, afterMs) => {
    pauses.push(afterMs);
    setImmediate(() => {
      now += afterMs;
      work();
    });
    return { unref() {} };
  });
  session.once("lost", () => context.mock.restoreAll());
  return pauses;
}

/** Answer a request that many times with an error, as often as it is said; resolves when it was said once more. */
async function refuse(socket, kind, times, body) {
  for (let count = 0; count < times; count += 1) {
    const { id } = await socket.next(kind);
    socket.sent.length = 0;
    socket.say({ kind: "error", re: id, body });
  }
  return socket.next(kind);
}

for (const code of ["unavailable", "a_code_of_a_newer_version"]) {
  test(`what is ${code} is said again after longer and longer pauses, under the same id`, { timeout: 10_000 }, async (context) => {
    const { session, socket } = await connected();
    const pauses = hasty(context, session);
    const reply = session.request("task.get", { task: "main-1" });
    const { id } = await socket.next("task.get");
    const again = await refuse(socket, "task.get", 7, { ...NOT_NOW, code });
    assert.equal(again.id, id);
    socket.say({ kind: "task.found", re: id, body: { view: {} } });
    await reply;
    assert.deepEqual(pauses, [25, 50, 100, 200, 400, 800, 1_600]);
  });
}

test("what the coordinator cannot answer for ten seconds is told", { timeout: 10_000 }, async (context) => {
  const { session, socket } = await connected();
  const pauses = hasty(context, session);
  const reply = session.request("task.get", { task: "main-1" });
  const told = assert.rejects(reply, { code: "unavailable", retryable: true });
  refuse(socket, "task.get", Infinity, NOT_NOW);
  await told;
  const lasted = pauses.reduce((sum, pause) => sum + pause, 0);
  assert.ok(lasted > 5_000 && lasted <= 10_000, `it was told after ${lasted} ms`);
  assert.equal(session.pending.size, 0);
});

test("what may be said again then is said then, and not where that is too late", { timeout: 10_000 }, async (context) => {
  const { session, socket } = await connected();
  const pauses = hasty(context, session);
  const reply = session.request("task.get", { task: "main-1" });
  const told = assert.rejects(reply, { retryAfterMs: 4_000 });
  const { id } = await refuse(socket, "task.get", 1, { ...NOT_NOW, retryAfterMs: 7_000 });
  socket.say({ kind: "error", re: id, body: { ...NOT_NOW, retryAfterMs: 4_000 } });
  await told;
  assert.deepEqual(pauses, [7_000]);
});

test("another refusal, and one that is not retryable, is told at once", { timeout: 10_000 }, async () => {
  const { session, socket } = await connected();
  for (const body of [{ ...NOT_NOW, retryable: false }, { code: "unavailable", detail: "never" }, { ...NOT_NOW, code: "quota" }]) {
    const reply = session.request("task.get", { task: "main-1" });
    socket.say({ kind: "error", re: socket.sent.at(-1).id, body });
    await assert.rejects(reply, { code: body.code });
  }
});

test("what waits to be said again is said by a new handshake, and not a second time", { timeout: 10_000 }, async (context) => {
  const { session, socket } = await connected();
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const reply = session.request("task.get", { task: "main-1" });
  const { id } = await socket.next("task.get");
  socket.say({ kind: "error", re: id, body: { ...NOT_NOW, retryAfterMs: 300 } });
  socket.close();
  context.mock.timers.tick(0);
  const again = await sockets.next();
  await again.welcome();
  context.mock.timers.tick(300);
  assert.equal(again.kinds().filter((kind) => kind === "task.get").length, 1);
  again.say({ kind: "task.found", re: id, body: { view: {} } });
  await reply;
});

test("a watch goes on over connections, each event once", async () => {
  const { session, socket } = await connected();
  const seen = [];
  const begun = session.watch("main-7", ({ gen }) => seen.push(gen));
  const { id, body } = await socket.next("task.watch");
  assert.deepEqual(body, { fromGen: 0 });
  socket.say({ kind: "ok", re: id }, { kind: "task.event", re: id, task: "main-7", gen: 1, body: { event: "created" } });
  await begun;
  socket.close();
  const again = await sockets.next();
  await again.welcome();
  const watch = await again.next("task.watch");
  assert.deepEqual(watch.body, { fromGen: 1 });
  const event = { kind: "task.event", re: watch.id, task: "main-7" };
  again.say({ ...event, gen: 1, body: { event: "created" } }, { ...event, gen: 2, body: { event: "grant" } });
  assert.deepEqual(seen, [1, 2]);
});

test("of two who watch a task each is told all it asked for", async () => {
  const { session, socket } = await connected();
  const seen = { first: [], second: [] };
  const event = (re, gen) => ({ kind: "task.event", re, task: "main-7", gen, body: { event: "x" } });
  const begin = (who, fromGen) => {
    const begun = session.watch("main-7", ({ gen }) => seen[who].push(gen), fromGen);
    const { id, body } = socket.sent.findLast(({ kind }) => kind === "task.watch");
    return { begun, id, body };
  };
  const first = begin("first", 1);
  const second = begin("second", 0);
  socket.say({ kind: "ok", re: first.id }, event(first.id, 2), { kind: "ok", re: second.id }, ...[1, 2, 3].map((gen) => event(second.id, gen)));
  await Promise.all([first.begun, second.begun]);
  assert.deepEqual(seen, { first: [2, 3], second: [1, 2, 3] });
  assert.deepEqual(begin("first", 9).body, { fromGen: 3 });
});

test("a watch that has seen the end of its task is not begun again", async () => {
  const { session, socket } = await connected();
  const begun = session.watch("main-7", () => {});
  const { id } = await socket.next("task.watch");
  const event = { kind: "task.event", re: id, task: "main-7" };
  socket.say({ kind: "ok", re: id }, { ...event, gen: 1, body: { event: "created", state: "queued" } });
  socket.say({ ...event, gen: 2, body: { event: "cancel", state: "canceled" } });
  await begun;
  socket.close();
  const again = await sockets.next();
  await again.welcome();
  await turn();
  assert.equal(again.kinds().includes("task.watch"), false);
});

test("a watch whose connection ends before its answer is begun again, and one that is refused is not", { timeout: 10_000 }, async () => {
  const { session, socket } = await connected();
  const refused = new Promise((resolve) => {
    session.watch("main-7", () => {}, 0, resolve).catch(resolve);
  });
  await socket.next("task.watch");
  socket.close();
  const again = await sockets.next();
  await again.welcome();
  const { id } = await again.next("task.watch");
  again.say({ kind: "error", re: id, body: { code: "gone", detail: "it is kept no more" } });
  assert.equal((await refused).code, "gone");
  again.close();
  const last = await sockets.next();
  await last.welcome();
  await turn();
  assert.equal(last.kinds().includes("task.watch"), false);
});

test("a watch ends with its session", { timeout: 10_000 }, async () => {
  const { session, socket } = await connected();
  const ended = new Promise((resolve) => session.watch("main-7", () => {}, 0, resolve));
  const { id } = await socket.next("task.watch");
  socket.say({ kind: "ok", re: id });
  socket.say({ kind: "bye", body: { reason: "taken_over" } });
  assert.match((await ended).message, /taken over/);
});

test("a ping is answered", async () => {
  const { socket } = await connected();
  socket.say({ kind: "ping", id: "p", body: { nonce: "n" } });
  const pong = await socket.next("pong");
  assert.deepEqual([pong.re, pong.body], ["p", { nonce: "n" }]);
});

test("a coordinator that says nothing any more is given up", async () => {
  const { socket } = await connected({}, { limits: { heartbeatMs: 5 } });
  await (await sockets.next()).welcome();
  assert.ok(socket.closed);
  assert.equal(socket.kinds().filter((kind) => kind === "ping").length, 3);
});

test("a coordinator that answers each ping is kept", { timeout: 10_000 }, async () => {
  const { socket } = await connected({}, { limits: { heartbeatMs: 5 } });
  for (let pings = 0; pings < 6; pings += 1) {
    const { id } = await socket.next("ping");
    socket.sent.length = 0;
    socket.say({ kind: "pong", re: id, body: {} });
  }
  assert.equal(socket.closed, false);
});

test("behind a connection that lasted the pauses begin anew", async (context) => {
  const { session, socket } = await connected();
  session.failures = 7;
  context.mock.method(performance, "now", () => session.connectedAt + 6_000);
  socket.close();
  assert.equal(session.failures, 0);
});

test("what comes over a connection that was given up is passed over", async () => {
  const { session, socket } = await connected();
  const seen = [];
  session.on("notice", (frame) => seen.push(frame.mseq));
  socket.say(offer(2));
  socket.say(offer(1));
  await (await sockets.next()).welcome();
  assert.deepEqual([socket.closed, seen], [true, []]);
});

test("a request without an answer ends with its session", { timeout: 10_000 }, async () => {
  const { session, socket } = await connected();
  const reply = session.request("task.get", { task: "main-1" });
  socket.say({ kind: "bye", body: { reason: "taken_over" } });
  await assert.rejects(reply, Disconnected);
});

test("a welcome in a version that was not offered is none: the connection is given up", async () => {
  const { session, socket } = await greeting();
  const reasons = [];
  session.on("lost", (reason) => reasons.push(reason));
  await socket.welcome({ version: "2.0" });
  await turn();
  assert.equal(socket.closed, true);
  assert.match(reasons[0], /2\.0/);
});
