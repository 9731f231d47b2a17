'use strict';

// One response on the page: its numbers, its text, its tokens. Everything that
// comes from a run is put in as text.

const GLYPHS = ['\u2713', '\u2717', '\u2702', '?'];
// Tokens, or parts of a text without tokens, that are drawn at a time.
const MOST_PARTS = 4000;
const PART_LENGTH = 4000;

/** An element with a class and children; strings are text. */
function make(name, className, ...children) {
  const found = document.createElement(name);
  if (className) found.className = className;
  found.append(...children);
  return found;
}

/** A text in which what cannot be seen stands by its number. */
function appendVisible(element, text) {
  for (const [part, isUnseen] of visibleParts(text)) {
    if (isUnseen) {
      const mark = make('span', 'unseen', part);
      mark.dataset.code = codeOf(part);
      element.append(mark);
    } else {
      element.append(part);
    }
  }
  return element;
}

/** The verdict of a response, with its sign. */
function verdictMark(verdict) {
  const words = `${GLYPHS[verdict]} ${VERDICTS[verdict]}`;
  return make('span', `verdict v${verdict}`, words);
}

/** Fills a row of the list. */
function drawRow(row, store, index) {
  const { columns, head } = store;
  const problem = store.problemOf(index);
  const top = make('div', 'top', verdictMark(columns.verdict[index]));
  const source = sourceName(store.sourceOf(index), head.runs);
  const where = make('span', 'where');
  appendVisible(where, `${source} · sample ${columns.sample[index]}`);
  const length = `${grouped(columns.length[index])} tokens`;
  top.append(where, make('span', 'num', length));
  for (const [name, places] of [['reward', 2], ['advantage', 2]]) {
    const value = columns[name][index];
    top.append(make('span', 'num more', `${name} ${signed(value, places)}`));
  }
  const text = `${problem.id}  ${problem.question.slice(0, 300)}`;
  row.append(top, appendVisible(make('div', 'question'), text));
}

/** What is known of a response, as a list of terms. */
function facts(store, index) {
  const { columns } = store;
  const flags = columns.flags[index];
  const rows = [
    ['length', `${grouped(columns.length[index])} tokens`],
    ['thinking', `${grouped(columns.thinking[index])} tokens`],
    ['reward', fixed(columns.reward[index], 3)],
    ['advantage', signed(columns.advantage[index], 3)],
  ];
  if (flags & IS_TRUNCATED) rows.push(['truncated', 'at its cap']);
  if (flags & IS_DROPPED) rows.push(['trained', 'no: dropped']);
  const found = make('dl', 'facts');
  for (const [term, value] of rows) {
    found.append(make('div', '', make('dt', '', term), make('dd', '', value)));
  }
  return found;
}

/** The parts of a response's text: of each token, or of a certain length. */
function partsOfText(response) {
  const found = [];
  let start = 0;
  if (response.cuts) {
    for (const length of response.cuts) {
      found.push(response.text.slice(start, start + length));
      start += length;
    }
    return found;
  }
  for (; start < response.text.length; start += PART_LENGTH) {
    found.push(response.text.slice(start, start + PART_LENGTH));
  }
  return found;
}

/** The shade of each part of a response. */
function shadesOf(response, kind, advantage) {
  if (!response.cuts || kind === 'none') return () => '';
  if (kind === 'advantage') {
    const { advantages } = response;
    return (i) => shadeOf(kind, advantages ? advantages[i] : advantage);
  }
  const values = response[kind];
  return values ? (i) => shadeOf(kind, values[i]) : () => '';
}

/** The text of a response, some thousand parts at a time. */
function textBox(response, kind, advantage, say) {
  const box = make('div', 'text');
  box.tabIndex = 0;
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', 'response; arrow keys go through its tokens');
  const parts = partsOfText(response);
  const shade = shadesOf(response, kind, advantage);
  let drawn = 0;
  const more = make('button', 'more', '');
  more.type = 'button';
  const draw = () => {
    const found = document.createDocumentFragment();
    const end = Math.min(parts.length, drawn + MOST_PARTS);
    for (; drawn < end; drawn += 1) {
      found.append(
        partElement(parts[drawn], drawn, shade(drawn), response.cuts),
      );
    }
    more.remove();
    box.append(found);
    if (drawn < parts.length) {
      const shown = `${grouped(drawn)} of ${grouped(parts.length)}`;
      more.textContent = `Show more (${shown} parts are shown)`;
      box.append(more);
    }
  };
  more.addEventListener('click', draw);
  draw();
  if (response.cuts) followTokens(box, response, say);
  return box;
}

function partElement(text, index, shade, isToken) {
  const found = make('span', `${isToken ? 't' : ''} ${shade}`.trim());
  if (!isToken) return appendVisible(found, text);
  found.dataset.token = index;
  if (!text) found.classList.add('empty');
  return appendVisible(found, text);
}

/** Says of the token under the pointer, or of the one that keys went to. */
function followTokens(box, response, say) {
  let current = null;
  const go = (token) => {
    if (!token || token === current) return;
    if (current) current.classList.remove('current');
    current = token;
    current.classList.add('current');
    say(tokenWords(response, Number(token.dataset.token)));
  };
  for (const name of ['pointerover', 'click']) {
    box.addEventListener(name, (event) => go(event.target.closest('.t')));
  }
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowRight' && event.key !== 'ArrowLeft') return;
    const { nextElementSibling, previousElementSibling } = current || {};
    const isRight = event.key === 'ArrowRight';
    const beside = isRight ? nextElementSibling : previousElementSibling;
    const next = current ? beside : box.firstElementChild;
    if (next && next.classList.contains('t')) {
      go(next);
      next.scrollIntoView({ block: 'nearest' });
    }
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Why a response is not shaded in the way that was asked for; '' if it is. */
function whyPlain(response, store, index, kind) {
  if (kind === 'none') return '';
  const run = store.sourceOf(index).run;
  if (!response.cuts) {
    return store.head.reasons[run]
      || 'not shaded: its tokens do not spell its text';
  }
  if (kind === 'advantage') {
    return Number.isNaN(store.columns.advantage[index])
      ? 'no advantage: nothing was trained on it' : '';
  }
  if (response[kind]) return '';
  const words = { logp: 'log-probabilities', entropy: 'entropies' };
  return `${words[kind]} were not stored`;
}

/** A response with its heading, numbers and text. */
async function panel(store, index, kind) {
  const response = await store.response(index);
  const { columns, head } = store;
  const say = make('p', 'say', '');
  const name = sourceName(store.sourceOf(index), head.runs);
  const title = appendVisible(
    make('h4', ''),
    `${name} · sample ${columns.sample[index]}`,
  );
  const box = textBox(response, kind, columns.advantage[index], (words) => {
    say.textContent = words;
  });
  const hint = response.cuts
    ? 'Point at a token, or use the arrow keys in the text.' : '';
  say.textContent = whyPlain(response, store, index, kind) || hint;
  const verdict = verdictMark(columns.verdict[index]);
  const heading = make('header', '', verdict, title);
  return make('article', 'panel', heading, facts(store, index), say, box);
}
