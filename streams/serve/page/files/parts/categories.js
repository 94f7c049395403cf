/**
 * Categories as bars: the score now, and a mark with an arrow for what it was before the last event, or would be without an item.
 */

import { fill, h, keep, put } from '../dom.js';
import { foreign } from '../foreign.js';
import { change, score } from '../format.js';
import { texts } from '../texts.js';
import { icon } from './icons.js';

/** @typedef {{category: string, score: number, other: number | null}} Bar `other`: what it is compared with; null if that is unknown */

const VISIBLE = 0.0095; // a smaller change says nothing
const MOST = 10; // bars

export class Categories extends HTMLElement {
  #list = h('ol', { class: 'bars' });

  connectedCallback() {
    if (!this.firstChild) this.append(this.#list);
  }

  /**
   * Show bars.
   * @param {Bar[]} bars in their order
   */
  show(bars) {
    keep(this.#list, bars.slice(0, MOST), (bar) => bar.category, make, update);
  }
}

/** @param {Bar} bar */
function make({ category }) {
  return h('li', { class: 'bar-row' }, h('span', { class: 'name' }, foreign(category, 48)), h('span', { class: 'numbers' }), h('span', { class: 'track', 'aria-hidden': 'true' }, h('i', { class: 'fill' }), h('i', { class: 'mark' })));
}

/** @param {HTMLElement} row @param {Bar} bar */
function update(row, { score: now, other }) {
  const numbers = row.querySelector('.numbers');
  if (!numbers) return;
  const by = other === null ? 0 : now - other;
  const way = Math.abs(by) < VISIBLE ? null : by > 0 ? 'up' : 'down';
  row.style.setProperty('--score', String(now));
  row.style.setProperty('--other', String(other ?? now));
  row.classList.toggle('changed', way !== null);
  put(
    numbers,
    way && h('span', { class: `change ${way}` }, icon(way), h('span', { class: 'unseen' }, way === 'up' ? texts.categories.up : texts.categories.down), change(by)),
    h('span', { class: 'score' }, score(now)),
  );
}

/**
 * A sentence on what the categories would be without an item.
 * @param {import('../types.js').WithoutAnswer} answer
 * @param {Node} item
 */
export function sentence({ categories }, item) {
  const first = categories[0];
  const now = categories.toSorted((one, other) => other.score - one.score)[0];
  if (!first || !now) return [];
  const values = { item, first: foreign(first.category, 48), now: foreign(now.category, 48), score: score(first.without), before: score(first.score) };
  return fill(first.category === now.category ? texts.categories.stays : texts.categories.other, values);
}

customElements.define('taste-categories', Categories);
