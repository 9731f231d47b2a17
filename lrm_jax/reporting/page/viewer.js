'use strict';

// The rollout viewer: controls, list, dialog, keys, and the address.

/** Everything on the page that the viewer works with. */
function elements() {
  const found = {};
  for (const name of ['search', 'part', 'min', 'max', 'from', 'to', 'sort',
    'reset', 'count', 'list', 'dialog', 'help', 'loading', 'viewer', 'previous',
    'next', 'close', 'beside', 'shade', 'legend', 'problem', 'panels',
    'position', 'help-button', 'help-close']) {
    found[name] = document.getElementById(`v-${name}`);
  }
  found.verdicts = [...document.querySelectorAll('[name=v-verdict]')];
  return found;
}

class Viewer {
  constructor(store, ui) {
    this.store = store;
    this.ui = ui;
    this.state = parseState(location.hash);
    this.places = new Uint32Array(0);
    // Which request to show a response is the last one.
    this.turn = 0;
    this.fillControls();
    this.list = new VirtualList(ui.list, {
      draw: (row, place) => drawRow(row, store, this.places[place]),
      chosen: (place) => this.chose(place),
      opened: () => this.open(),
    });
    this.listen();
    this.filter(false);
    this.follow();
  }

  /** Options that depend on what is in the page. */
  fillControls() {
    for (const [value, name] of partsOf(this.store.head)) {
      const option = make('option', '', name);
      option.value = value;
      this.ui.part.append(option);
    }
  }

  /** Puts the state into the controls. */
  showState() {
    const { ui, state } = this;
    ui.search.value = state.q;
    for (const key of ['min', 'max', 'from', 'to', 'part', 'sort', 'shade']) {
      ui[key].value = state[key];
    }
    for (const box of ui.verdicts) {
      box.checked = state.v.includes(box.value);
    }
  }

  listen() {
    const { ui } = this;
    const change = () => {
      this.state.q = ui.search.value;
      for (const key of ['min', 'max', 'from', 'to', 'part', 'sort']) {
        this.state[key] = ui[key].value;
      }
      const chosen = ui.verdicts.filter((box) => box.checked);
      this.state.v = chosen.map((box) => box.value).join('');
      this.filter(true);
    };
    for (const key of ['search', 'min', 'max', 'from', 'to', 'part', 'sort']) {
      ui[key].addEventListener('input', change);
    }
    ui.verdicts.forEach((box) => box.addEventListener('change', change));
    ui.reset.addEventListener('click', () => {
      this.state = { ...DEFAULTS, shade: this.state.shade };
      this.filter(true);
    });
    ui.shade.addEventListener('change', () => {
      this.state.shade = ui.shade.value;
      this.render();
    });
    ui.beside.addEventListener('change', () => {
      this.state.beside = ui.beside.value;
      this.render();
    });
    ui.previous.addEventListener('click', () => this.list.move(-1));
    ui.next.addEventListener('click', () => this.list.move(1));
    ui.close.addEventListener('click', () => ui.dialog.close());
    ui.dialog.addEventListener('close', () => this.closed());
    ui['help-button'].addEventListener('click', () => ui.help.showModal());
    ui['help-close'].addEventListener('click', () => ui.help.close());
    document.addEventListener('keydown', (event) => this.pressed(event));
    addEventListener('hashchange', () => {
      if (location.hash.startsWith(`#${VIEW}`)) {
        this.state = parseState(location.hash);
        this.filter(false);
        this.follow();
      }
    });
  }

  /** Opens what the address asks for. */
  follow() {
    if (!location.hash.startsWith(`#${VIEW}`)) return;
    if (this.state.open !== '') this.open();
    else this.ui.viewer.scrollIntoView();
  }

  /** Chooses responses anew. */
  filter(isNew) {
    const { state, ui, store } = this;
    this.showState();
    this.places = select(store, state);
    const index = state.open === '' ? -1 : Number(state.open);
    const place = index < 0 ? -1 : this.places.indexOf(index);
    if (place < 0) state.open = '';
    this.list.reset(this.places.length, place);
    const shown = `${grouped(this.places.length)} of ${grouped(store.count)}`;
    ui.count.textContent = `${shown} responses`;
    if (isNew) this.write();
  }

  /** Another row of the list has been chosen. */
  chose() {
    if (!this.ui.dialog.open) return;
    this.state.beside = this.state.beside === 'none' ? 'none' : '';
    this.render();
  }

  /** Opens the chosen response. */
  open() {
    if (this.list.place < 0) return;
    if (!this.ui.dialog.open) this.ui.dialog.showModal();
    this.render();
  }

  closed() {
    this.state.open = '';
    this.turn += 1;
    this.write();
    this.ui.list.focus();
  }

  /** Shows the chosen response, and the one beside it. */
  async render() {
    const { ui, store, state } = this;
    if (!ui.dialog.open) return;
    this.turn += 1;
    const { turn } = this;
    const index = this.places[this.list.place];
    state.open = String(index);
    const other = this.fillBeside(index);
    this.write();
    const shown = other < 0 ? [index] : [index, other];
    const panels = await Promise.all(
      shown.map((i) => panel(store, i, state.shade)),
    );
    // Meanwhile another one may have been asked for.
    if (turn !== this.turn) return;
    const count = this.places.length;
    const number = grouped(this.list.place + 1);
    ui.position.textContent = `${number} of ${grouped(count)}`;
    ui.previous.disabled = this.list.place === 0;
    ui.next.disabled = this.list.place === count - 1;
    this.showProblem(index);
    this.showLegend();
    ui.panels.className = `panels n${panels.length}`;
    ui.panels.replaceChildren(...panels);
  }

  /** Offers the other responses to the problem; returns the one beside. */
  fillBeside(index) {
    const { ui, store, state } = this;
    const among = siblings(store, index);
    const options = [['none', 'nothing'], ...among.map((i) => {
      const name = sourceName(store.sourceOf(i), store.head.runs);
      const verdict = VERDICTS[store.columns.verdict[i]];
      const sample = store.columns.sample[i];
      const length = grouped(store.columns.length[i]);
      const words = `sample ${sample} · ${verdict}, ${length} tokens`;
      return [String(i), `${name} · ${words}`];
    })];
    ui.beside.replaceChildren(...options.map(([value, name]) => {
      const option = make('option', '', name);
      option.value = value;
      return option;
    }));
    let other = counterpart(store, index, among);
    if (state.beside === 'none') other = -1;
    else if (among.includes(Number(state.beside)) && state.beside !== '') {
      other = Number(state.beside);
    }
    ui.beside.value = other < 0 ? 'none' : String(other);
    ui.beside.disabled = among.length === 0;
    return other;
  }

  showProblem(index) {
    const { id, question, answer } = this.store.problemOf(index);
    const row = (name, text) => {
      const shown = appendVisible(make('dd', ''), text || '\u2013');
      return make('div', '', make('dt', '', name), shown);
    };
    this.ui.problem.replaceChildren(
      row('Problem', id), row('Question', question), row('Gold answer', answer),
    );
  }

  showLegend() {
    const units = {
      logp: 'log-probability of the token, nats',
      entropy: 'entropy of the next-token law, nats',
      advantage: 'advantage: one for the response, or that of the token',
    };
    const kind = this.state.shade;
    const found = legendOf(kind).map(([name, words]) => (
      make('li', '', make('span', `swatch ${name}`, '\u00a0'), words)
    ));
    this.ui.legend.replaceChildren();
    if (kind !== 'none') {
      const unit = make('span', 'unit', units[kind]);
      this.ui.legend.append(unit, make('ul', '', ...found));
    }
  }

  /** Keys that work everywhere on the page. */
  pressed(event) {
    const { ui } = this;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    const isTyping = target.matches('input:not([type=checkbox]), select');
    if (ui.help.open) return;
    if (event.key === 'Escape' && isTyping && !ui.dialog.open) target.blur();
    if (isTyping) return;
    const isFree = target === document.body || target === ui.list;
    const moves = { j: 1, k: -1 };
    if (target === ui.list) {
      // Elsewhere these scroll the page.
      Object.assign(moves, {
        ArrowDown: 1,
        ArrowUp: -1,
        PageDown: this.list.page,
        PageUp: -this.list.page,
        Home: -this.list.count,
        End: this.list.count,
      });
    } else if (ui.dialog.open && !target.matches('.text')) {
      Object.assign(moves, { ArrowRight: 1, ArrowLeft: -1 });
    }
    const { key } = event;
    const isSeen = isInSight(ui.viewer);
    if (Object.hasOwn(moves, key) && (ui.dialog.open || isSeen)) {
      this.list.move(moves[key]);
    } else if (key === 'Enter' && isFree && !ui.dialog.open && isSeen) {
      this.open();
    } else if (key === '/' && !ui.dialog.open) {
      ui.search.focus();
      ui.search.select();
    } else if (key === '?') {
      ui.help.showModal();
    } else {
      return;
    }
    event.preventDefault();
  }

  /** The state as the end of the page's address, without a new entry. */
  write() {
    const hash = formatState(this.state);
    if (hash !== location.hash) history.replaceState(null, '', hash);
  }
}

/** Whether any of an element is on the screen. */
function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

async function start() {
  const ui = elements();
  if (!ui.viewer || !document.getElementById('blob-index')) return;
  const textOf = (name) => document.getElementById(`blob-${name}`).textContent;
  try {
    const store = await openStore(textOf);
    ui.loading.remove();
    ui.viewer.hidden = false;
    window.viewer = new Viewer(store, ui);
  } catch (error) {
    ui.loading.textContent = `The rollouts cannot be shown: ${error.message}`;
    throw error;
  }
}

document.addEventListener('DOMContentLoaded', start);
