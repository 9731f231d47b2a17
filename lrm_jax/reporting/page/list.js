'use strict';

// A list box that has elements only for the rows that can be seen.

// Pixels of a row, as in viewer.css.
const ROW_HEIGHT = 52;
// Rows beyond both edges that are drawn too.
const MARGIN = 6;

/**
 * A virtual list box.
 *
 * `box` scrolls and has the focus; `draw(element, place)` fills the row of a
 * place, from 0; `chosen(place)` is told when another one is chosen, and
 * `opened(place)` when one is clicked.
 */
class VirtualList {
  constructor(box, { draw, chosen, opened }) {
    this.box = box;
    this.draw = draw;
    this.chosen = chosen;
    this.count = 0;
    this.place = -1;
    this.rows = new Map();
    this.spacer = document.createElement('div');
    this.spacer.setAttribute('role', 'presentation');
    this.spacer.className = 'spacer';
    box.replaceChildren(this.spacer);
    box.addEventListener('scroll', () => this.update(), { passive: true });
    new ResizeObserver(() => this.update()).observe(box);
    box.addEventListener('click', (event) => {
      const row = event.target.closest('[role=option]');
      if (!row) return;
      this.choose(Number(row.dataset.place));
      opened(this.place);
    });
  }

  /** Shows so many rows anew; one of them may be chosen. */
  reset(count, place) {
    this.count = count;
    this.spacer.style.height = `${count * ROW_HEIGHT}px`;
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    this.place = -1;
    this.box.removeAttribute('aria-activedescendant');
    this.choose(place >= 0 ? place : Math.min(0, count - 1));
    if (place < 0) this.box.scrollTop = 0;
    this.update();
  }

  /** Chooses a row, and brings it into sight. */
  choose(place) {
    if (place < 0 || place >= this.count) return;
    const before = this.rows.get(this.place);
    if (before) before.setAttribute('aria-selected', 'false');
    this.place = place;
    const top = place * ROW_HEIGHT;
    if (top < this.box.scrollTop) {
      this.box.scrollTop = top;
    } else if (top + ROW_HEIGHT > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + ROW_HEIGHT - this.box.clientHeight;
    }
    this.update();
    const row = this.rows.get(place);
    if (row) {
      row.setAttribute('aria-selected', 'true');
      this.box.setAttribute('aria-activedescendant', row.id);
    }
    this.chosen(place);
  }

  /** Moves by so many rows, and stays within. */
  move(by) {
    const place = Math.max(0, Math.min(this.count - 1, this.place + by));
    if (place !== this.place) this.choose(place);
  }

  /** Rows that fit into the box. */
  get page() {
    return Math.max(1, Math.floor(this.box.clientHeight / ROW_HEIGHT) - 1);
  }

  /** Draws the rows that can be seen, and drops the others. */
  update() {
    const { scrollTop, clientHeight } = this.box;
    const first = Math.max(0, Math.floor(scrollTop / ROW_HEIGHT) - MARGIN);
    const last = Math.min(
      this.count - 1,
      Math.ceil((scrollTop + clientHeight) / ROW_HEIGHT) + MARGIN,
    );
    const stays = (place) => (
      (place >= first && place <= last) || place === this.place
    );
    for (const [place, row] of this.rows) {
      if (!stays(place)) {
        row.remove();
        this.rows.delete(place);
      }
    }
    for (let place = first; place <= last; place += 1) this.ensure(place);
    // What `aria-activedescendant` names must exist.
    if (this.place >= 0) this.ensure(this.place);
  }

  ensure(place) {
    if (this.rows.has(place)) return;
    const row = document.createElement('div');
    row.setAttribute('role', 'option');
    row.id = `row-${place}`;
    row.className = 'row';
    row.dataset.place = place;
    row.setAttribute('aria-posinset', place + 1);
    row.setAttribute('aria-setsize', this.count);
    row.setAttribute('aria-selected', String(place === this.place));
    row.style.top = `${place * ROW_HEIGHT}px`;
    this.draw(row, place);
    this.spacer.append(row);
    this.rows.set(place, row);
  }
}
