// The golden vectors of the specification, as far as they are about what a peer does.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { canonical, chunksHash, contentHash, resultHash } from "../canonical.js";
import { decode, encode, Malformed } from "../wire.js";

const FOLDER = new URL("../../../spec/v1/vectors/", import.meta.url);
const rows = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8"));

/** The message of a row: text, hexadecimal digits, or pieces some of which are repeated. */
function message(row) {
  if ("hex" in row) return Buffer.from(row.hex, "hex");
  const pieces = row.pieces ?? [row.text];
  return pieces.map((piece) => (typeof piece === "string" ? piece : piece.repeat.repeat(piece.times))).join("");
}

// What this peer sends, and so writes to the byte as the specification has it.
const SENT = ["hello", "bye", "ping", "pong", "credit", "mailbox.ack", "agent.update", "agent.find", "task.delegate", "task.accept",
  "task.decline", "task.heartbeat", "task.checkpoint", "task.artifact", "task.handoff", "task.report", "task.confirm", "task.cancel",
  "task.yield", "task.get", "task.list", "task.watch", "task.steer", "task.ask", "claim.renew", "claim.release"];

for (const row of rows("frames")) {
  test(`frame: ${row.name}`, () => {
    const frames = [row.frame];
    assert.deepEqual(decode(row.json, "json"), frames);
    assert.deepEqual(decode(Buffer.from(row.msgpack, "hex"), "msgpack"), frames);
    assert.equal(encode(frames, "json"), row.json);
    assert.deepEqual(decode(encode(frames, "msgpack"), "msgpack"), frames);
    if (SENT.includes(row.name)) assert.equal(encode(frames, "msgpack").toString("hex"), row.msgpack);
  });
}

/** A frame with nothing but the fields of the row: unknown ones are passed over, and may be there. */
function knownFields(frame, like) {
  const known = Object.fromEntries(Object.entries(frame).filter(([name]) => name in like));
  if ("body" in known) known.body = Object.fromEntries(Object.entries(known.body).filter(([name]) => name in like.body));
  return known;
}

for (const row of rows("readable")) {
  test(`readable, ${row.encoding}: ${row.name}`, () => {
    const found = decode(message(row), row.encoding);
    assert.equal(found.length, row.frames.length);
    row.frames.forEach((frame, at) => assert.deepEqual(knownFields(found[at], frame), frame));
  });
}

for (const row of rows("bad-frames")) {
  test(`bad frame, ${row.encoding}: ${row.name}`, () => {
    assert.ok(["ends", "may read"].includes(row.agent));
    if (row.agent === "ends") return assert.throws(() => decode(message(row), row.encoding), Malformed);
    try {
      decode(message(row), row.encoding);
    } catch (problem) {
      assert.ok(problem instanceof Malformed, problem);
    }
  });
}

for (const row of rows("canonical")) {
  test(`canonical: ${row.json}`, () => {
    if (row.canonical === null) return assert.throws(() => canonical(JSON.parse(row.json)), TypeError);
    assert.equal(canonical(JSON.parse(row.json)), row.canonical);
  });
}

for (const row of rows("hashes")) {
  test(`hash of a ${row.of}: ${row.canonical} ${row.payload}`, () => {
    assert.equal(contentHash(row.header, row.payload), row.hash);
    if (row.of === "result") assert.equal(resultHash(row.header.outcome, row.payload), row.hash);
  });
}

for (const row of rows("artifacts")) {
  test(`artifact of ${row.chunks.length} chunks: ${row.digest}`, () => assert.equal(chunksHash(row.chunks), row.digest));
}
