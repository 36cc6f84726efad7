import assert from "node:assert/strict";
import test from "node:test";

import { canonical, chunksHash, contentHash, resultHash } from "../canonical.js";

test("the example of RFC 8785 has the form given there", () => {
  const value = {
    numbers: [333333333.33333329, 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
    string: "\u20ac$\u000f\nA'\u0042\u0022\u005c\\\"/",
    literals: [null, true, false],
  };
  const expected =
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
    '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}';
  assert.equal(canonical(value), expected);
});

test("keys are sorted by UTF-16 code units", () => {
  assert.equal(canonical({ "\u{1f600}": 1, "\ufb33": 2, "\u20ac": 3, 1: 4 }), '{"1":4,"€":3,"😀":1,"\ufb33":2}');
});

test("what is no JSON value has no canonical form", () => {
  for (const value of [Number.NaN, Infinity, "\ud800", undefined, 1n, { a: undefined }]) {
    assert.throws(() => canonical(value), TypeError);
  }
});

test("minus nought is nought, and a key that is special in this language is none", () => {
  assert.equal(canonical([-0, JSON.parse('{"__proto__":1}')]), '[0,{"__proto__":1}]');
});

test("the hash of a result is the one of the specification's example", () => {
  const payload = '[{"artifactId":"result","parts":[{"data":{"words":3}}]}]';
  const expected = "sha256:8f5bdd10eb9abf5e01b8bb50bf0ef9bb6020ece704c9d51f06bbbf0c27c538dc";
  assert.equal(resultHash("completed", payload), expected);
});

test("a report without a payload has the hash of an empty array", () => {
  assert.equal(resultHash("canceled"), contentHash({ outcome: "canceled" }, "[]"));
});

test("an artifact's hash covers its chunks in a row, and nothing beside", () => {
  assert.equal(chunksHash(["[1]", "[2]"]), chunksHash(["[1][2]"]));
  assert.equal(chunksHash([]), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});
