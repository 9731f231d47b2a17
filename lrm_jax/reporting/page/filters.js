'use strict';

// Which responses the list shows, and the same as the end of an address.

const VERDICTS = ['right', 'wrong', 'truncated', 'unverified'];
const VERDICT_LETTERS = 'rwtu';
const SORTS = ['order', 'longest', 'shortest', 'best', 'worst'];
const SHADES = ['logp', 'entropy', 'advantage', 'none'];
const VIEW = 'rollouts?';
const DEFAULTS = {
  q: '', v: VERDICT_LETTERS, min: '', max: '', from: '', to: '',
  part: '', sort: 'order', open: '', beside: '', shade: 'logp',
};
const NUMBERS = ['min', 'max', 'from', 'to', 'open'];

/** The state that an address asks for; what cannot be is the default. */
function parseState(hash) {
  const state = { ...DEFAULTS };
  const text = hash.replace(/^#/, '');
  if (!text.startsWith(VIEW)) return state;
  const found = new URLSearchParams(text.slice(VIEW.length));
  for (const key of Object.keys(DEFAULTS)) {
    if (found.has(key)) state[key] = found.get(key);
  }
  for (const key of NUMBERS) {
    if (!/^\d{1,12}$/.test(state[key])) state[key] = '';
  }
  if (!/^(none|\d{1,12})$/.test(state.beside)) state.beside = '';
  if (!/^[rwtu]*$/.test(state.v)) state.v = DEFAULTS.v;
  if (!SORTS.includes(state.sort)) state.sort = 'order';
  if (!SHADES.includes(state.shade)) state.shade = 'logp';
  return state;
}

/** The end of the address of a state: only what is not the default. */
function formatState(state) {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(DEFAULTS)) {
    if (state[key] !== value) found.set(key, state[key]);
  }
  return `#${VIEW}${found}`;
}

/** The name of a source, such as 'dler · step 12'. */
function sourceName(source, runs) {
  const part = source.kind === 'training' ? `step ${source.step}` : source.kind;
  return runs.length > 1 ? `${runs[source.run]} · ${part}` : part;
}

/** The parts that can be chosen: [value, name], all runs and kinds of rows. */
function partsOf(head) {
  const found = new Map();
  for (const source of head.sources) {
    const run = head.runs[source.run];
    if (head.runs.length > 1) found.set(`${source.run}`, run);
    const { kind } = source;
    const name = head.runs.length > 1 ? `${run} · ${kind}` : kind;
    found.set(`${source.run}.${kind}`, name);
  }
  return [...found];
}

/** Places of the responses that a state asks for, in its order. */
function select(store, state) {
  const { columns, head } = store;
  const sources = head.sources.map((source) => isIn(source, state));
  const problems = matches(store.problems, state.q);
  const verdicts = VERDICTS.map((_, i) => (
    state.v.includes(VERDICT_LETTERS[i])
  ));
  const low = state.min === '' ? 0 : Number(state.min);
  const high = state.max === '' ? Infinity : Number(state.max);
  const found = new Uint32Array(store.count);
  let count = 0;
  for (let i = 0; i < store.count; i += 1) {
    const length = columns.length[i];
    if (sources[columns.source[i]] && verdicts[columns.verdict[i]]
        && problems[columns.problem[i]] && length >= low && length <= high) {
      found[count] = i;
      count += 1;
    }
  }
  return sorted(found.subarray(0, count), columns, state.sort);
}

function isIn(source, state) {
  const [run, kind] = split(state.part);
  if (run !== '' && String(source.run) !== run) return false;
  if (kind !== '' && source.kind !== kind) return false;
  // What has no step is of none of those asked for.
  if (state.from !== '' && source.step < Number(state.from)) return false;
  return state.to === ''
    || (source.step >= 0 && source.step <= Number(state.to));
}

function split(part) {
  const at = part.indexOf('.');
  return at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)];
}

/** Of each problem whether its id or question has the words that are sought. */
function matches(problems, query) {
  const sought = query.trim().toLowerCase();
  return problems.map((problem) => {
    if (sought === '') return true;
    // Kept: the next letter asks again.
    problem.words ??= `${problem.id}\n${problem.question}`.toLowerCase();
    return problem.words.includes(sought);
  });
}

function sorted(places, columns, order) {
  const by = (key, sign) => places.slice().sort((a, b) => {
    const [x, y] = [key[a], key[b]];
    // NaN, which is no number, comes last.
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number.isNaN(x) - Number.isNaN(y) || a - b;
    }
    return sign * (x - y) || a - b;
  });
  if (order === 'longest') return by(columns.length, -1);
  if (order === 'shortest') return by(columns.length, 1);
  if (order === 'best') return by(columns.advantage, -1);
  if (order === 'worst') return by(columns.advantage, 1);
  return places;
}

/** Responses to the same problem as one of them, itself left out. */
function siblings(store, index) {
  const { problem } = store.columns;
  const found = [];
  for (let i = 0; i < store.count; i += 1) {
    if (i !== index && problem[i] === problem[index]) found.push(i);
  }
  return found;
}

/** Which of them stands beside a response at first; -1 for none.
 *
 * The same sample of the same problem: before and after a run, or under
 * another run's evaluation.
 */
function counterpart(store, index, among) {
  const { sample } = store.columns;
  const own = store.sourceOf(index);
  const wanted = { before: 'after', after: 'before' }[own.kind];
  for (const other of among) {
    const source = store.sourceOf(other);
    if (sample[other] !== sample[index]) continue;
    if (wanted ? source.run === own.run && source.kind === wanted
      : own.kind === 'evaluation' && source.kind === 'evaluation'
        && source.run !== own.run) return other;
  }
  return -1;
}
