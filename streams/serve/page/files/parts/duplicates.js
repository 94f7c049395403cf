/**
 * Groups of items whose pictures are the same, or nearly, page by page. Tells `more` when somebody wants the next page.
 */

import { ask } from '../api.js';
import { custom, fill, h, keep, put } from '../dom.js';
import { count } from '../format.js';
import { texts } from '../texts.js';
import { Items } from './items.js';

/**
 * @typedef {import('../types.js').DuplicateGroup} DuplicateGroup
 * @typedef {import('../types.js').DuplicatesAnswer} DuplicatesAnswer
 */

const PAGE = 12; // groups
export const SAME = 0.9995; // cosine above which a picture is the same: rounding takes a little of 1

export class Duplicates extends HTMLElement {
  #list = h('ul', { class: 'copies' });
  #more = h('button', { type: 'button', hidden: true, onclick: () => this.dispatchEvent(new Event('more')) }, texts.duplicates.more);
  /** @type {DuplicateGroup[]} */
  #groups = [];

  connectedCallback() {
    if (!this.firstChild) this.append(this.#list, this.#more);
  }

  /**
   * Read a page, and show it.
   * @param {AbortSignal} signal
   * @param {boolean} [isNext] whether it follows what is shown; otherwise it is the first one
   * @returns {Promise<DuplicatesAnswer>}
   * @throws what `ask` throws
   */
  async read(signal, isNext = false) {
    const before = isNext ? this.#groups : [];
    /** @type {DuplicatesAnswer} */
    const answer = await ask(`/v1/items:duplicates?n=${PAGE}&start=${before.length}`, { signal });
    this.#groups = [...before, ...answer.groups];
    keep(this.#list, this.#groups, ({ items }) => items[0]?.item_id ?? '', make, update);
    this.#more.hidden = this.#groups.length >= answer.found || answer.groups.length === 0;
    return answer;
  }
}

function make() {
  return h('li', {}, h('h3', {}), custom(Items), h('p', { class: 'small muted others' }));
}

/** @param {HTMLElement} group @param {DuplicateGroup} value */
function update(group, value) {
  const [title, items, others] = ['h3', 'taste-items', '.others'].map((one) => group.querySelector(one));
  if (!title || !(items instanceof Items) || !others) return;
  const isSame = value.items.every(({ score }) => score >= SAME);
  put(title, fill(isSame ? texts.duplicates.same : texts.duplicates.alike, { count: count(value.count) }));
  items.show(value.items);
  const left = value.count - value.items.length;
  put(others, left > 0 && fill(texts.duplicates.others, { count: count(left) }));
}

customElements.define('duplicate-groups', Duplicates);
