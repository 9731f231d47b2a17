'use strict';

// Texts and numbers of tokens: what cannot be seen, shades, and their words.

// Controls, marks of direction, separators of lines, halves of a pair: they
// stay in the text, and stand there by their number.
const UNSEEN = new RegExp(
  '[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b-\\u200f\\u2028-\\u202e'
  + '\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ufffe\\uffff]'
  + '|[\\ud800-\\udbff](?![\\udc00-\\udfff])'
  + '|(?<![\\ud800-\\udbff])[\\udc00-\\udfff]', 'g',
);
// Nats between two shades; more is shaded like the most.
const STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4];
const ADVANTAGE_STEPS = [0.01, 0.5, 1, 2];
const MINUS = '\u2212';

/** [text, whether it cannot be seen] of all its parts, in order. */
function visibleParts(text) {
  const found = [];
  let start = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > start) {
      found.push([text.slice(start, match.index), false]);
    }
    found.push([match[0], true]);
    start = match.index + match[0].length;
  }
  if (start < text.length) found.push([text.slice(start), false]);
  return found;
}

/** 'U+202E' of a character. */
function codeOf(character) {
  const code = character.charCodeAt(0).toString(16).toUpperCase();
  return `U+${code.padStart(4, '0')}`;
}

/** The class of a token by its number; '' where there is none. */
function shadeOf(kind, value) {
  if (kind === 'none' || value === null || Number.isNaN(value)) return '';
  if (kind === 'advantage') {
    const size = ADVANTAGE_STEPS.filter((step) => Math.abs(value) >= step);
    if (!size.length) return 'a0';
    return `${value > 0 ? 'up' : 'down'}${size.length}`;
  }
  const size = STEPS.filter((step) => Math.abs(value) >= step).length;
  return `${kind === 'logp' ? 'l' : 'e'}${size}`;
}

/** The legend of a shade: [class, words] of each step, the faintest first. */
function legendOf(kind) {
  if (kind === 'none') return [];
  if (kind === 'advantage') {
    const words = (sign, i) => {
      const from = `${sign}${ADVANTAGE_STEPS[i]}`;
      return i + 1 < ADVANTAGE_STEPS.length
        ? `${from} to ${sign}${ADVANTAGE_STEPS[i + 1]}` : `beyond ${from}`;
    };
    const steps = (name, sign) => (
      ADVANTAGE_STEPS.map((_, i) => [`${name}${i + 1}`, words(sign, i)])
    );
    const [down, up] = [steps('down', MINUS), steps('up', '+')];
    return [...down.reverse(), ['a0', 'about 0'], ...up];
  }
  const [letter, sign] = kind === 'logp' ? ['l', MINUS] : ['e', ''];
  const ends = STEPS.map((step) => `${sign}${step}`);
  return [
    [`${letter}0`, `0 to ${ends[0]}`],
    ...ends.map((end, i) => [
      `${letter}${i + 1}`,
      i + 1 < ends.length ? `to ${ends[i + 1]}` : `beyond ${end}`,
    ]),
  ];
}

/** A whole number with commas between its thousands. */
function grouped(value) {
  return value.toLocaleString('en');
}

/** A number with so many places and a true minus; a dash for none. */
function fixed(value, places) {
  if (value === null || Number.isNaN(value)) return '\u2013';
  return value.toFixed(places).replace('-', MINUS);
}

/** The same with its sign. */
function signed(value, places) {
  return `${value > 0 ? '+' : ''}${fixed(value, places)}`;
}

/** What is known of a token, in words. */
function tokenWords(response, index) {
  const found = [`token ${index + 1} of ${response.cuts.length}`];
  if (response.logp) {
    const value = response.logp[index];
    const share = Number.isNaN(value) ? '' : ` (p = ${percentOf(value)})`;
    found.push(`log-probability ${fixed(value, 3)} nats${share}`);
  }
  if (response.entropy) {
    found.push(`entropy ${fixed(response.entropy[index], 3)} nats`);
  }
  if (response.advantages) {
    found.push(`advantage ${signed(response.advantages[index], 3)}`);
  }
  return found.join(' · ');
}

function percentOf(logp) {
  const percent = 100 * Math.exp(logp);
  return percent < 0.01 ? '< 0.01 %' : `${percent.toPrecision(3)} %`;
}
