import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { afterEach, beforeEach } from "node:test";

import { Agent } from "../agent.js";
import { chunksHash, resultHash } from "../canonical.js";
import { cardOf, SKILLS } from "../skills.js";
import { Store } from "../store.js";
import { Sockets, turn } from "./socket.js";

let directory;
let sockets;
let agents;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "a2a-node-"));
  sockets = new Sockets();
  agents = [];
});

afterEach(async () => {
  for (const agent of agents) await agent.session.close();
  fs.rmSync(directory, { recursive: true });
});

async function ready(settings = {}) {
  const agent = new Agent({
    ...{ url: "ws://x", agentId: "node", store: new Store(directory, "node"), card: cardOf(), skills: Object.keys(SKILLS) },
    ...{ open: sockets.open, random: () => 0, ...settings },
  });
  agents.push(agent);
  agent.on("problem", () => {});
  agent.start();
  const socket = await sockets.next();
  return { agent, socket };
}

const TIMES = { attempt: 1, granted: true, offerMs: 5_000, leaseMs: 30_000, heartbeatMs: 10_000, key: "k", rev: 0 };

function offer(skill, parts, more = {}) {
  const body = { ...TIMES, spec: { skill }, contextId: "c", delegator: "desk", proof: "shown", ...more };
  return { kind: "task.offer", mseq: 1, task: "main-7", fence: 8, payload: JSON.stringify(parts), body };
}

/** Everything of an attempt is answered as a coordinator does, but for its report. */
function answers(socket, { until = "task.report" } = {}) {
  const send = socket.send.bind(socket);
  socket.send = (data) => {
    const before = socket.sent.length;
    send(data);
    for (const { id, kind, task, fence } of socket.sent.slice(before)) {
      if (kind === "task.heartbeat") setImmediate(() => socket.say({ kind: "task.lease", re: id, task, fence, body: { leaseMs: 30_000 } }));
      else if (kind.startsWith("task.") && kind !== until) setImmediate(() => socket.say({ kind: "ok", re: id, body: {} }));
    }
  };
}

async function working(skill, parts, more, settings) {
  const { agent, socket } = await ready(settings);
  answers(socket, settings);
  await socket.welcome();
  socket.say(offer(skill, parts, more));
  return { agent, socket };
}

const verdict = (report, word) => ({ kind: "task.verdict", re: report.id, task: report.task, fence: report.fence, body: { verdict: word } });
const QUESTION = []; // input without a text: the agent asks, and its attempt lasts as long as a test likes

test("a grant is begun with a heartbeat and ended with a report of the right hash", async () => {
  const { agent, socket } = await working("text_statistics", [{ text: "One two." }]);
  const ended = new Promise((resolve) => agent.once("ended", resolve));
  const report = await socket.next("task.report");
  assert.equal(socket.kinds().filter((kind) => kind.startsWith("task."))[0], "task.heartbeat");
  assert.deepEqual([report.task, report.fence, report.body.outcome], ["main-7", 8, "completed"]);
  assert.equal(report.body.resultHash, resultHash("completed", report.payload));
  const [{ artifactId, name, parts }] = JSON.parse(report.payload);
  assert.deepEqual([artifactId, name, parts[0].data.total.words], ["result", "result", 2]);
  socket.say(verdict(report, "admitted"));
  await ended;
  assert.equal(agent.attempts.size, 0);
});

test("a streamed artifact has a chunk for each document, and its digest at the end and in the report", async () => {
  const { socket } = await working("markdown_lint", [{ text: "#A\n", filename: "a" }, { text: "b\n", filename: "b" }]);
  const report = await socket.next("task.report");
  const chunks = socket.sent.filter(({ kind }) => kind === "task.artifact");
  assert.deepEqual(
    chunks.map(({ body }) => [body.chunkNo, body.append, body.lastChunk]),
    [
      [0, false, false],
      [1, true, true],
    ],
  );
  const digest = chunksHash(chunks.map(({ payload }) => payload));
  assert.equal(chunks[1].body.digest, digest);
  assert.deepEqual(report.body.artifacts, [{ artifactId: "report", digest }]);
});

test("rules that a word, the feedback or the input names are left out", async () => {
  const text = { text: "#A\tb \n" };
  const word = (rule) => JSON.stringify([{ data: { ignore: [rule] } }]);
  const more = { steers: [{ steerNo: 3, payload: word("hard-tab") }], feedback: [{ rev: 0, payload: word("heading-space") }] };
  const { socket } = await working("markdown_lint", [text, { data: { ignore: ["trailing-space"] } }], more);
  const report = await socket.next("task.report");
  assert.deepEqual(JSON.parse(report.payload)[0].parts[0].data.findings, []);
  assert.equal(report.body.steerNo, 3);
});

test("a word that the work never looks at is not seen", async () => {
  const more = { steers: [{ steerNo: 3, payload: "[]" }] };
  const { socket } = await working("text_statistics", [{ text: "One." }], more);
  assert.equal((await socket.next("task.report")).body.steerNo, 0);
});

test("an offer that is no grant is asked for first, and not begun where it does not stand", async () => {
  const { agent, socket } = await ready();
  await socket.welcome();
  socket.say(offer("text_statistics", QUESTION, { granted: false }));
  const { id, task, fence } = await socket.next("task.accept");
  assert.deepEqual([task, fence, agent.attempts.get("main-7/8").begun], ["main-7", 8, false]);
  socket.say({ kind: "error", re: id, body: { code: "stale", detail: "somebody else" } });
  await turn();
  assert.deepEqual([agent.attempts.size, socket.kinds().includes("task.heartbeat")], [0, false]);
});

test("an offer whose acceptance has no answer yet is not held, and is asked for again", async () => {
  const { socket } = await ready();
  await socket.welcome();
  socket.say(offer("text_statistics", QUESTION, { granted: false }));
  const { id } = await socket.next("task.accept");
  socket.close();
  const again = await sockets.next();
  assert.deepEqual((await again.welcome({ nextMseq: 2 })).body.held, []);
  assert.equal((await again.next("task.accept")).id, id);
});

test("a word that comes while the work is at it is looked at", async () => {
  const { socket } = await working("markdown_lint", QUESTION);
  await socket.next("task.ask");
  const word = JSON.stringify([{ data: { ignore: ["final-newline"] } }]);
  socket.say({ kind: "task.steer", mseq: 2, task: "main-7", payload: word, body: { key: "w", steerNo: 1 } });
  socket.say({ kind: "task.answer", mseq: 3, task: "main-7", payload: '[{"text":"One."}]', body: { askNo: 1 } });
  const report = await socket.next("task.report");
  assert.deepEqual([JSON.parse(report.payload)[0].parts[0].data.findings, report.body.steerNo], [[], 1]);
});

test("an accepted offer is begun", async () => {
  const { socket } = await working("text_statistics", QUESTION, { granted: false });
  await socket.next("task.accept");
  await socket.next("task.ask");
});

test("an offer that comes again begins no second attempt", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  socket.say({ ...offer("text_statistics", QUESTION), mseq: 2 });
  await socket.next("task.ask");
  assert.equal(agent.attempts.size, 1);
  assert.equal(socket.kinds().filter((kind) => kind === "task.heartbeat").length, 1);
});

test("a skill it does not have is declined", async () => {
  const { socket } = await working("fly", []);
  assert.equal((await socket.next("task.decline")).body.reason, "unsupported");
});

test("input that does not fit is a failure that is not tried again, and says why", async () => {
  const { socket } = await working("text_statistics", [{ data: { text: 7 } }]);
  const { body } = await socket.next("task.report");
  assert.deepEqual([body.outcome, body.error], ["failed", { code: "schema", detail: "a document has a text", retryable: false }]);
});

test("a question is asked once, and its answer is worked on", async () => {
  const { socket } = await working("text_statistics", QUESTION);
  const { body } = await socket.next("task.ask");
  assert.deepEqual(body, { askNo: 1, hold: "hot" });
  socket.say({ kind: "task.answer", mseq: 2, task: "main-7", payload: '[{"text":"One."}]', body: { askNo: 1 } });
  assert.equal((await socket.next("task.report")).body.outcome, "completed");
});

test("what an earlier attempt asked and was told is not asked again", async () => {
  const { socket } = await working("text_statistics", QUESTION, { answers: [{ askNo: 1, payload: '[{"text":"One."}]' }] });
  assert.equal((await socket.next("task.report")).body.outcome, "completed");
  assert.equal(socket.kinds().includes("task.ask"), false);
});

test("the next attempt goes on behind the checkpoint", async () => {
  const done = [{ name: "text 1", characters: 1, words: 41, sentences: 1, lines: 1, readingSeconds: 1, longest: [] }];
  const checkpoint = { cpNo: 1, fence: 4, agent: "other", payload: JSON.stringify([{ data: { done } }]) };
  const { socket } = await working("text_statistics", [{ text: "never read" }, { text: "Two." }], { checkpoint });
  const report = await socket.next("task.report");
  assert.equal(JSON.parse(report.payload)[0].parts[0].data.total.words, 42);
  const left = socket.sent.filter(({ kind }) => kind === "task.checkpoint");
  assert.deepEqual(left.map(({ body }) => [body.cpNo, body.baseCp]), [[1, 0]]);
});

test("a word that is no JSON is passed over", async () => {
  const feedback = [{ rev: 0, payload: "no JSON" }, { rev: 1, payload: '[{"data":{"ignore":["heading-space"]}}]' }];
  const { socket } = await working("markdown_lint", [{ text: "#A\n", filename: "a" }], { feedback });
  assert.equal((await socket.next("task.report")).body.outcome, "completed");
});

for (const payload of ["no JSON", "null", "[null]", "7", '[{"data":7}]', '[{"data":{"done":"all"}}]']) {
  test(`where the checkpoint is ${payload}, the attempt begins at the beginning`, async () => {
    const checkpoint = { cpNo: 1, fence: 4, agent: "other", payload };
    const { socket } = await working("text_statistics", [{ text: "One." }, { text: "Two." }], { checkpoint });
    const report = await socket.next("task.report");
    assert.equal(report.body.outcome, "completed");
    assert.equal(JSON.parse(report.payload)[0].parts[0].data.total.words, 2);
    assert.deepEqual(report.body.usage, { steps: 2 });
  });
}

test("who drains waits for all that is under way, and not for the first to end", { timeout: 10_000 }, async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  socket.say({ ...offer("text_statistics", QUESTION), mseq: 2, task: "main-8", fence: 9 });
  while (socket.kinds().filter((kind) => kind === "task.ask").length < 2) await turn();
  const drained = agent.drain(60_000);
  for (const [place, task] of ["main-7", "main-8"].entries()) {
    assert.equal(socket.kinds().includes("bye"), false);
    const ended = new Promise((resolve) => agent.once("ended", resolve));
    socket.sent = socket.sent.filter(({ kind }) => kind !== "task.report");
    socket.say({ kind: "task.answer", mseq: 3 + place, task, payload: '[{"text":"One."}]', body: { askNo: 1 } });
    socket.say(verdict(await socket.next("task.report"), "admitted"));
    await ended;
    await turn();
  }
  await drained;
});

test("an attempt beats as often as its offer says", { timeout: 10_000 }, async () => {
  const { socket } = await working("text_statistics", QUESTION, { heartbeatMs: 5 });
  for (let beats = 0; beats < 3; beats += 1) {
    await socket.next("task.heartbeat");
    socket.sent.length = 0;
  }
});

test("the newest state is left, also where it came before the one before it was answered", { timeout: 10_000 }, async () => {
  const documents = ["a", "b", "c"].map((filename) => ({ text: "x\n", filename }));
  const { socket } = await working("markdown_lint", documents, {}, { until: "task.artifact" });
  const left = () => socket.sent.filter(({ kind }) => kind === "task.checkpoint");
  while (!left().some(({ payload }) => JSON.parse(payload)[0].data.done.length === 3)) await turn();
  for (const [place, { body }] of left().entries()) assert.deepEqual([body.cpNo, body.baseCp], [place + 1, place]);
});

test("attempts at work are held over a reconnection, and go on where they are kept", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  socket.close();
  const again = await sockets.next();
  answers(again);
  const held = [{ task: "main-7", fence: 8, verdict: "keep", leaseMs: 30_000 }];
  const hello = await again.welcome({ held, nextMseq: 2 });
  assert.deepEqual(hello.body.held, [{ task: "main-7", fence: 8, progressNo: 0, proof: "shown" }]);
  again.say({ kind: "task.answer", mseq: 2, task: "main-7", payload: '[{"text":"One."}]', body: { askNo: 1 } });
  assert.equal((await again.next("task.report")).body.outcome, "completed");
  assert.equal(agent.attempts.size, 1);
});

for (const word of ["stale", "unknown"]) {
  test(`an attempt that is ${word} by now stops, and says nothing`, async () => {
    const { agent, socket } = await working("text_statistics", QUESTION);
    await socket.next("task.ask");
    await turn();
    socket.close();
    const again = await sockets.next();
    await again.welcome({ held: [{ task: "main-7", fence: 8, verdict: word }], nextMseq: 2 });
    await turn();
    assert.equal(agent.attempts.size, 0);
    assert.deepEqual(again.kinds(), ["hello"]);
  });
}

test("a report without an answer is sent again by the next process, which holds its attempt until then", async () => {
  const { socket } = await working("text_statistics", [{ text: "One." }]);
  const report = await socket.next("task.report");
  const next = await ready();
  const hello = await next.socket.welcome({ held: [{ task: "main-7", fence: 8, verdict: "keep", leaseMs: 1 }] });
  assert.deepEqual(hello.body.held, [{ task: "main-7", fence: 8, proof: "shown" }]);
  assert.deepEqual(await next.socket.next("task.report"), report, "its proof is kept with it, and not sent");
  next.socket.say(offer("text_statistics", [{ text: "One." }])); // once more: it was acknowledged, or was not
  assert.equal(next.agent.attempts.size, 0);
  next.socket.say(verdict(report, "admitted"));
  next.socket.close();
  assert.deepEqual((await (await sockets.next()).welcome()).body.held, []);
});

const REVOKED = { kind: "task.revoke", mseq: 2, task: "main-7", fence: 8 };

test("a cancel with a grace is reported as canceled", async () => {
  const { socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  socket.say({ ...REVOKED, body: { reason: "cancel", mode: "coop", graceMs: 1_000 } });
  const { body, payload } = await socket.next("task.report");
  assert.deepEqual([body.outcome, body.resultHash, payload], ["canceled", resultHash("canceled"), "[]"]);
});

test("the directive to cancel in a lease does the same", async () => {
  const { agent, socket } = await ready();
  await socket.welcome();
  socket.say(offer("text_statistics", QUESTION));
  const { id } = await socket.next("task.heartbeat");
  socket.say({ kind: "task.lease", re: id, task: "main-7", fence: 8, body: { leaseMs: 30_000, directives: ["later", "cancel:kill"] } });
  assert.equal((await socket.next("task.report")).body.outcome, "canceled");
  assert.equal(agent.attempts.size, 1); // until its verdict has come
});

test("an attempt that is taken away is given back", async () => {
  const { socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  socket.say({ ...REVOKED, body: { reason: "drain", graceMs: 1_000 } });
  assert.equal((await socket.next("task.yield")).body.reason, "drain");
});

test("without a grace the work stops and nothing is said; a word about another fence means another attempt", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  await turn();
  socket.say({ ...REVOKED, fence: 7, body: { reason: "superseded" } });
  await turn();
  assert.equal(agent.attempts.size, 1);
  socket.sent.length = 0;
  socket.say({ ...REVOKED, mseq: 3, body: { reason: "superseded" } });
  await turn();
  assert.equal(agent.attempts.size, 0);
  assert.deepEqual(socket.kinds(), ["mailbox.ack"]);
});

test("a heartbeat that is answered with a revoke ends the attempt", async () => {
  const { agent, socket } = await ready();
  await socket.welcome();
  socket.say(offer("text_statistics", QUESTION));
  const { id } = await socket.next("task.heartbeat");
  socket.say({ kind: "task.revoke", re: id, task: "main-7", fence: 8, body: { reason: "superseded" } });
  await turn();
  assert.equal(agent.attempts.size, 0);
});

test("a report that the coordinator holds for invalid is followed by one that it failed", async () => {
  const { socket } = await working("text_statistics", [{ text: "One." }]);
  const report = await socket.next("task.report");
  socket.sent.length = 0;
  socket.say(verdict(report, "invalid"));
  const second = await socket.next("task.report");
  assert.deepEqual([second.body.outcome, second.body.error.code], ["failed", "invalid"]);
});

test("a result larger than the coordinator takes is a failure that says so", async () => {
  const { socket } = await working("text_statistics", [{ text: "word ".repeat(300) }]);
  const { body } = await socket.next("task.report");
  assert.deepEqual([body.outcome, body.error.code], ["failed", "too_large"]);
});

test("draining takes nothing new, lets work end and says so in its goodbye", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  const drained = agent.drain(10_000);
  socket.say({ ...offer("text_statistics", QUESTION), mseq: 2, fence: 9 });
  assert.equal((await socket.next("task.yield")).fence, 9);
  assert.equal((await socket.next("agent.update")).body.status, "draining");
  socket.say({ kind: "task.answer", mseq: 3, task: "main-7", payload: '[{"text":"One."}]', body: { askNo: 1 } });
  socket.say(verdict(await socket.next("task.report"), "admitted"));
  await drained;
  assert.equal(socket.sent.at(-1).kind, "bye");
  assert.equal(socket.sent.at(-1).body.drain, true);
});

test("what does not end within the grace is left to others", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  await agent.drain(1);
  assert.equal(socket.kinds().includes("task.report"), false);
  assert.equal(socket.sent.at(-1).body.drain, true);
});

test("who was taken over stops its work", async () => {
  const { agent, socket } = await working("text_statistics", QUESTION);
  await socket.next("task.ask");
  const over = new Promise((resolve) => agent.once("over", (reason, code) => resolve(code)));
  socket.say({ kind: "bye", body: { reason: "taken_over" } });
  assert.equal(await over, "taken_over");
  await turn();
  assert.equal(agent.attempts.size, 0);
});
