/**
 * Which items are wanted: of a category, in stock, of a price at most. Tells `change`.
 */

import { h, put } from '../dom.js';
import { texts } from '../texts.js';

let number = 0; // of the elements on the page, for the ids of their lists

export class Filter extends HTMLElement {
  #names = h('datalist', { id: `filter-${++number}` });
  #category = h('input', { type: 'search', maxlength: 256, list: this.#names.id, placeholder: texts.filter.category, 'aria-label': texts.filter.category, autocomplete: 'off', spellcheck: 'false' });
  #price = h('input', { type: 'number', min: 0, max: 1e12, step: 'any', inputmode: 'decimal', placeholder: texts.filter.price, 'aria-label': texts.filter.price });
  #stock = h('input', { type: 'checkbox' });
  /** @type {Set<string>} */
  #known = new Set();

  connectedCallback() {
    if (this.firstChild) return;
    this.append(this.#category, this.#price, h('label', {}, this.#stock, texts.filter.stock), this.#names);
    this.addEventListener('change', (event) => {
      if (event.target === this) return;
      event.stopPropagation();
      this.dispatchEvent(new Event('change'));
    });
  }

  /** Whether anything is asked for. */
  get isSet() {
    return this.query !== '';
  }

  /** What is asked for, as the API takes it: '' or parameters that begin with `&`. */
  get query() {
    const wanted = new URLSearchParams();
    const category = this.#category.value.trim();
    if (category) wanted.set('category', category);
    if (this.#price.value && this.#price.validity.valid) wanted.set('price_max', this.#price.value);
    if (this.#stock.checked) wanted.set('in_stock', 'true');
    return wanted.size ? `&${wanted}` : '';
  }

  /** Offer the categories of items that were seen. @param {{categories: string[]}[]} items */
  offer(items) {
    const before = this.#known.size;
    for (const { categories } of items) for (const one of categories) if (this.#known.size < 200) this.#known.add(one);
    if (this.#known.size > before) put(this.#names, [...this.#known].sort().map((value) => h('option', { value })));
  }
}

customElements.define('item-filter', Filter);
