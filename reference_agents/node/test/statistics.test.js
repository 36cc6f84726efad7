import assert from "node:assert/strict";
import test from "node:test";

import { documentsOf, Unfit } from "../documents.js";
import { statisticsOf, totalOf } from "../statistics.js";

test("words, sentences and lines are counted", () => {
  const { words, sentences, lines, characters } = statisticsOf({ name: "a", text: "One two. Three, four?\nDon't stop 😀\n" });
  assert.deepEqual({ words, sentences, lines, characters }, { words: 6, sentences: 3, lines: 2, characters: 35 });
});

test("a text with nothing in it has nothing", () => {
  const { words, sentences, lines, longest, readingSeconds } = statisticsOf({ name: "a", text: "" });
  assert.deepEqual([words, sentences, lines, longest, readingSeconds], [0, 0, 0, [], 0]);
});

test("the longest sentences come first, with the line they begin on", () => {
  const text = "Short one.\n\nThis sentence is clearly the\nlongest one here. Not this.\r\n\r\nA heading\n\nAnd the end is near now.";
  const { longest } = statisticsOf({ name: "a", text });
  assert.deepEqual(longest[0], { line: 3, words: 8, text: "This sentence is clearly the longest one here." });
  assert.deepEqual(
    longest.map(({ line, words }) => [line, words]),
    [
      [3, 8],
      [8, 6],
      [1, 2],
    ],
  );
});

test("a blank line ends a sentence, so that a heading is none with what follows", () => {
  assert.equal(statisticsOf({ name: "a", text: "A heading\n\nA sentence" }).sentences, 2);
});

test("reading takes a minute for 238 words, and the sum is that of all", () => {
  const document = statisticsOf({ name: "a", text: "word ".repeat(238) });
  assert.equal(document.readingSeconds, 60);
  assert.equal(totalOf([document, document]).readingSeconds, 120);
  assert.equal(totalOf([document, document]).documents, 2);
});

test("documents come as text, as bytes, as data, and in lists", () => {
  const parts = [
    { text: "one" },
    { raw: Buffer.from("twö").toString("base64"), filename: "2.md" },
    { data: { documents: [{ name: "3", text: "three" }] } },
    { data: { text: "four", name: "4" } },
    { data: "five" },
  ];
  assert.deepEqual(
    documentsOf(JSON.stringify(parts)).map(({ name, text }) => `${name}=${text}`),
    ["text 1=one", "2.md=twö", "3=three", "4=four", "text 5=five"],
  );
  assert.deepEqual(documentsOf("[]"), []);
});

test("input that does not fit says so", () => {
  for (const payload of ["{", "{}", "[1]", "[null]", "[{}]", '[{"data":{"text":1}}]', '[{"data":{"documents":1}}]', '[{"raw":"/w=="}]']) {
    assert.throws(() => documentsOf(payload), Unfit, payload);
  }
});
