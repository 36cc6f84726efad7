import assert from "node:assert/strict";
import test from "node:test";

import { anchorOf, anchorsOf, findingsOf, RULES } from "../lint.js";

const found = (text, anchors) => findingsOf({ name: "a.md", text }, anchors).map(({ line, rule }) => `${line} ${rule}`);

test("a tidy document has no findings", () => {
  const text = "# Title\n\nText with a [link](#part).  \nNext line.\n\n## Part\n\n```sh\n# no heading  \n\tcommand\n```\n\n### Below\n";
  assert.deepEqual(found(text), ["9 trailing-space"]);
  assert.deepEqual(found(""), []);
});

const CASES = {
  "trailing-space": ["a \n", "a   \n", " \n\na\n"],
  "hard-tab": ["a\tb\n"],
  "final-newline": ["a", "a\n\n"],
  "heading-skips": ["# A\n\n### B\n", "A\n=\n\n#### B\n"],
  "heading-duplicate": ["# A\n\n## B\n\n## b\n"],
  "heading-space": ["#A\n"],
  "heading-first": ["# A\n\n# B\n"],
  "fence-unclosed": ["```sh\na\n", "~~~sh\n```\n", "````sh\n```\n"],
  "fence-language": ["```\na\n```\n"],
  "anchor-broken": ["# A\n\n[x](#b)\n", "# A\n\n[x](a.md#b)\n", "# A\n\n[x][y]\n\n[y]: #b\n"],
  "link-empty": ["[x]()\n", "[x](#)\n"],
  "reference-unknown": ["[x][y]\n", "[x][]\n"],
  "image-text": ["![](x.png)\n"],
};

for (const [rule, texts] of Object.entries(CASES)) {
  test(`${rule} is found, and nothing beside`, () => {
    for (const text of texts) {
      const rules = found(text).map((finding) => finding.split(" ")[1]);
      assert.deepEqual([...new Set(rules)], [rule], JSON.stringify(text));
    }
  });
}

test("every rule has a case", () => assert.deepEqual(Object.keys(CASES).sort(), Object.keys(RULES).sort()));

test("what stands in code is no link, no heading and no tab", () => {
  assert.deepEqual(found("# A\n\nSee `[x](#no)` and ``[y][z] ` ``.\n\n~~~md\n# A\n[x](#no)\t.\n~~~\n"), []);
});

test("the same heading under different headings is no duplicate", () => {
  assert.deepEqual(found("# T\n\n## A\n\n### Use\n\n## B\n\n### Use\n"), []);
});

test("headings of both kinds have anchors, and one that comes again a number", () => {
  const anchors = anchorsOf('Title *here*\n======\n\n## `code` & more\n\n## Part\n\n## Part\n\n<a id="own"></a>\n');
  assert.deepEqual([...anchors], ["title-here", "code--more", "part", "part-1", "own"]);
  assert.equal(anchorOf("3.1 Frames [and](x) Größe_2"), "31-frames-and-größe_2");
});

test("links between documents that are there are followed, relative to where they stand", () => {
  const anchors = new Map([
    ["doc/b.md", new Set(["there"])],
    ["c.md", new Set(["top"])],
  ]);
  const text = "[1](b.md#there) [2](b.md#gone) [3](../c.md#top) [4](../c.md#gone) [5](d.md#unknown) [6](https://x/c.md#gone)\n";
  const details = findingsOf({ name: "doc/a.md", text }, anchors).map(({ detail }) => detail);
  assert.deepEqual(details, ["no heading #gone in doc/b.md", "no heading #gone in c.md"]);
});

test("lines may end as they do anywhere", () => {
  assert.deepEqual(found("# A\r\n\r\n### B\r\n"), ["3 heading-skips"]);
});

test("long lines take no long time", () => {
  const began = performance.now();
  found(`${"[".repeat(20_000)}\n${"`".repeat(20_000)}a\n${" ".repeat(20_000)}x\n${"[a]".repeat(20_000)}\n`);
  assert.ok(performance.now() - began < 5_000);
});
