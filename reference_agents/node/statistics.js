// The skill `text_statistics`: what one wants to know of a text before reading it.

const WORDS_A_MINUTE = 238; // how fast adults read silently, on average
const LONGEST = 3;

export const STATISTICS_SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: {
    documents: {
      type: "array",
      items: {
        type: "object",
        properties: {
          name: { type: "string" },
          characters: { type: "integer" },
          words: { type: "integer" },
          sentences: { type: "integer" },
          lines: { type: "integer" },
          readingSeconds: { type: "integer" },
          longest: {
            type: "array",
            items: {
              type: "object",
              properties: { line: { type: "integer" }, words: { type: "integer" }, text: { type: "string" } },
              required: ["line", "words", "text"],
            },
          },
        },
        required: ["name", "characters", "words", "sentences", "lines", "readingSeconds", "longest"],
      },
    },
    total: { type: "object" },
  },
  required: ["documents", "total"],
};

const wordsIn = new Intl.Segmenter("en", { granularity: "word" });
const sentencesIn = new Intl.Segmenter("en", { granularity: "sentence" });

export function countWords(text) {
  let words = 0;
  for (const { isWordLike } of wordsIn.segment(text)) if (isWordLike) words += 1;
  return words;
}

function countLines(text) {
  if (text === "") return 0;
  return /[\r\n]$/.test(text) ? lineBreaks(text) : lineBreaks(text) + 1;
}

function lineBreaks(text) {
  return text.match(/\r\n|\r|\n/g)?.length ?? 0;
}

/** The sentences that have a word in them, with the line each begins on. A blank line ends one, a line's end does not. */
function sentencesOf(text) {
  const sentences = [];
  let line = 1;
  for (const block of text.split(/((?:\r\n|\r|\n)[^\S\r\n]*(?:\r\n|\r|\n)\s*)/)) {
    for (const { segment, index } of sentencesIn.segment(block.replace(/[\r\n]/g, " "))) {
      const written = block.slice(index, index + segment.length);
      const words = countWords(segment);
      const begins = line + lineBreaks(written.match(/^\s*/)[0]);
      if (words > 0) sentences.push({ line: begins, words, text: segment.trim().replace(/\s+/g, " ") });
      line += lineBreaks(written);
    }
  }
  return sentences;
}

export function statisticsOf({ name, text }) {
  const words = countWords(text);
  const sentences = sentencesOf(text);
  return {
    name,
    characters: [...text].length,
    words,
    sentences: sentences.length,
    lines: countLines(text),
    readingSeconds: readingSeconds(words),
    longest: sentences.sort((a, b) => b.words - a.words || a.line - b.line).slice(0, LONGEST),
  };
}

function readingSeconds(words) {
  return Math.ceil((words * 60) / WORDS_A_MINUTE);
}

export function totalOf(documents) {
  const total = { documents: documents.length, characters: 0, words: 0, sentences: 0, lines: 0 };
  for (const document of documents) {
    for (const kind of ["characters", "words", "sentences", "lines"]) total[kind] += document[kind];
  }
  return { ...total, readingSeconds: readingSeconds(total.words) };
}
