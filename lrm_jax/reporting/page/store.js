'use strict';

// Reads what `reporting/store.py` packed: see there for the layout.

const COLUMNS = {
  source: Uint16Array,
  problem: Uint32Array,
  sample: Uint32Array,
  verdict: Uint8Array,
  flags: Uint8Array,
  length: Uint32Array,
  thinking: Uint32Array,
  reward: Float32Array,
  advantage: Float32Array,
};
const HAS_TOKENS = 1;
const HAS_LOGP = 2;
const HAS_ENTROPY = 4;
const HAS_ADVANTAGES = 8;
const IS_TRUNCATED = 1;
const IS_DROPPED = 2;
const UNKNOWN = 0xffff;
const MIDDLE = 0x7fff;
const RESOLUTION = 1e-3;
// Chunks that stay unpacked.
const MOST_CHUNKS = 12;

/** The bytes of gzip in base64, as an ArrayBuffer. */
async function unpack(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) {
    bytes[i] = packed.charCodeAt(i);
  }
  const stream = new Blob([bytes]).stream();
  const whole = stream.pipeThrough(new DecompressionStream('gzip'));
  return new Response(whole).arrayBuffer();
}

/** A JSON header with its length before it, and where the rest begins. */
function readHead(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, size));
  return { head: JSON.parse(text), rest: 4 + size };
}

/** The index: its header, and a typed array of each column. */
function readIndex(buffer) {
  const { head, rest } = readHead(buffer);
  const columns = {};
  for (const [name, Kind] of Object.entries(COLUMNS)) {
    columns[name] = new Kind(buffer, rest + head.columns[name], head.count);
  }
  return { head, columns };
}

/**
 * The responses of a chunk: {text, cuts, logp, entropy, advantages}; null is
 * absent.
 */
function readChunk(buffer) {
  const { head, rest } = readHead(buffer);
  const numbers = new Uint16Array(buffer, rest);
  let place = 0;
  const take = (bit) => head.texts.map((_, i) => {
    if (!(head.has[i] & bit)) return null;
    place += head.tokens[i];
    return numbers.subarray(place - head.tokens[i], place);
  });
  const cuts = take(HAS_TOKENS);
  const logp = take(HAS_LOGP);
  const entropy = take(HAS_ENTROPY);
  const advantages = take(HAS_ADVANTAGES);
  return head.texts.map((text, i) => ({
    text,
    cuts: cuts[i],
    // Stored without their sign.
    logp: logp[i] && Array.from(logp[i], (x) => real(x, -1, 0)),
    entropy: entropy[i] && Array.from(entropy[i], (x) => real(x, 1, 0)),
    advantages: advantages[i]
      && Array.from(advantages[i], (x) => real(x, 1, MIDDLE)),
  }));
}

function real(value, sign, zero) {
  return value === UNKNOWN ? NaN : sign * (value - zero) * RESOLUTION;
}

/** Where `index` belongs in ascending `starts`: the last one not above it. */
function chunkOf(starts, index) {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= index) low = middle; else high = middle - 1;
  }
  return low;
}

/** All responses of the page; texts are unpacked when they are asked for. */
class Store {
  constructor(index, problems, textOf) {
    this.head = index.head;
    this.columns = index.columns;
    this.count = index.head.count;
    this.problems = problems.map(([id, question, answer]) => (
      { id, question, answer }
    ));
    this.textOf = textOf;
    this.chunks = new Map();
  }

  /** The text and the tokens of a response. */
  async response(index) {
    const number = chunkOf(this.head.chunks, index);
    if (!this.chunks.has(number)) {
      const found = unpack(this.textOf(`chunk-${number}`)).then(readChunk);
      this.chunks.set(number, found);
      if (this.chunks.size > MOST_CHUNKS) {
        // A Map keeps the order in which it was filled.
        this.chunks.delete(this.chunks.keys().next().value);
      }
    }
    const rows = await this.chunks.get(number);
    return rows[index - this.head.chunks[number]];
  }

  problemOf(index) {
    return this.problems[this.columns.problem[index]];
  }

  sourceOf(index) {
    return this.head.sources[this.columns.source[index]];
  }
}

/** The store of a page; `textOf` gives the text of a blob by its name. */
async function openStore(textOf) {
  const [index, problems] = await Promise.all([
    unpack(textOf('index')).then(readIndex),
    unpack(textOf('problems')).then((buffer) => (
      JSON.parse(new TextDecoder().decode(buffer))
    )),
  ]);
  return new Store(index, problems, textOf);
}
