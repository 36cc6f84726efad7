import assert from "node:assert/strict";
import test from "node:test";

import { encode as pack, ExtData } from "@msgpack/msgpack";

import { decode, encode, Malformed } from "../wire.js";

const FRAME = { id: "1", kind: "task.report", task: "main-7", fence: 8, payload: '[{"text":"ä"}]', body: { outcome: "completed" } };
const malformed = (data, encoding) => assert.throws(() => decode(data, encoding), Malformed);

for (const encoding of ["json", "msgpack"]) {
  test(`${encoding}: frames come out as they went in, in their order`, () => {
    const frames = [FRAME, { id: "2", kind: "ping", body: {} }, { id: "3", kind: "credit", body: { tasks: 2, frames: 9 } }];
    assert.deepEqual(decode(encode(frames, encoding), encoding), frames);
  });

  test(`${encoding}: absent and null are the same, and an absent body is an empty one`, () => {
    const frame = { id: "1", kind: "pong", re: null, task: undefined, body: { nonce: null, list: [null] } };
    assert.deepEqual(decode(encode(frame, encoding), encoding), [{ id: "1", kind: "pong", body: { list: [null] } }]);
    assert.deepEqual(decode(encode({ id: "1", kind: "pong" }, encoding), encoding)[0].body, {});
  });

  test(`${encoding}: what no encoding can hold is not sent`, () => {
    for (const value of [Number.NaN, Infinity, 1e20, 2 ** 53, "\udc00", { "\ud800": 1 }, () => {}]) {
      assert.throws(() => encode({ id: "1", kind: "x", body: { value } }, encoding), Malformed);
    }
  });

  test(`${encoding}: a key that is special in this language is an ordinary key`, () => {
    const body = JSON.parse('{"spec":{"__proto__":{"polluted":true},"constructor":1}}');
    const [frame] = decode(encode({ id: "1", kind: "x", body }, encoding), encoding);
    assert.deepEqual(Object.keys(frame.body.spec), ["__proto__", "constructor"]);
    assert.equal({}.polluted, undefined);
    assert.equal(Object.getPrototypeOf(frame.body.spec), Object.prototype);
  });
}

test("a payload is bytes in MessagePack and the same text in JSON", () => {
  const question = { ...FRAME, kind: "task.ask", body: { askNo: 1, default: "[]" } };
  const bytes = encode(question, "msgpack");
  assert.ok(bytes.includes(Buffer.concat([Buffer.from([0xc4, 15]), Buffer.from(FRAME.payload)])));
  assert.ok(bytes.includes(Buffer.from([0xc4, 2, 0x5b, 0x5d])));
  assert.deepEqual(decode(bytes, "msgpack"), [question]);
});

test("bytes anywhere in a frame are text here, so that an offer reads the same in both encodings", () => {
  const body = { steers: [{ steerNo: 1, payload: Buffer.from("[]") }], checkpoint: { payload: Buffer.from("[1]") } };
  const [frame] = decode(pack({ id: "1", kind: "task.offer", body }), "msgpack");
  assert.equal(frame.body.steers[0].payload, "[]");
  assert.equal(frame.body.checkpoint.payload, "[1]");
});

test("blank lines between JSON frames are passed over", () => {
  assert.equal(decode('\n{"id":"1","kind":"ping"}\n \n{"id":"2","kind":"ping"}\n', "json").length, 2);
});

test("a message without a whole frame is malformed", () => {
  for (const text of ["", "\n", "[]", "1", "{", '{"id":"1"}', '{"id":1,"kind":"x"}', '{"id":"1","kind":"x","body":[]}']) malformed(text, "json");
  const whole = encode(FRAME, "msgpack");
  malformed(whole.subarray(0, whole.length - 1), "msgpack");
  malformed(Buffer.concat([whole, whole.subarray(0, 5)]), "msgpack");
  malformed(Buffer.alloc(0), "msgpack");
});

test("numbers and texts beyond what every language can hold are malformed", () => {
  malformed('{"id":"1","kind":"x","body":{"n":1e999}}', "json");
  malformed('{"id":"1","kind":"x","fence":9007199254740992}', "json");
  malformed('{"id":"1","kind":"x","body":{"t":"\\ud800"}}', "json");
  malformed('{"id":"1","kind":"x","mseq":-1}', "json");
  malformed(pack({ id: "1", kind: "x", body: { n: 2n ** 53n } }, { useBigInt64: true }), "msgpack");
  malformed(pack({ id: "1", kind: "x", body: { n: Number.NaN } }), "msgpack");
  malformed(pack({ id: "1", kind: "x", payload: Buffer.from([0xff]) }), "msgpack");
  malformed(pack({ id: "1", kind: "x", body: { at: new Date() } }), "msgpack");
  malformed(pack({ id: "1", kind: "x", body: { at: new ExtData(7, new Uint8Array(1)) } }), "msgpack");
  const framed = (body) => Buffer.from([0x83, 0xa2, ...Buffer.from("id"), 0xa1, 0x31, 0xa4, ...Buffer.from("kind"), 0xa1, 0x78, 0xa4, ...Buffer.from("body"), ...body]);
  assert.deepEqual(decode(framed([0x81, 0xa1, 0x61, 0x02]), "msgpack"), [{ id: "1", kind: "x", body: { a: 2 } }]);
  malformed(framed([0x81, 0x01, 0x02]), "msgpack");
});

test("the largest integers are numbers", () => {
  const n = Number.MAX_SAFE_INTEGER;
  for (const encoding of ["json", "msgpack"]) {
    assert.deepEqual(decode(encode({ id: "1", kind: "x", fence: n, body: { n: -n } }, encoding), encoding)[0].body, { n: -n });
  }
});

test("what is nested without end is malformed, and no stack overflows", () => {
  malformed(`{"id":"1","kind":"x","body":{"a":${"[".repeat(5000)}${"]".repeat(5000)}}}`, "json");
});
