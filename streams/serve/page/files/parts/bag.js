/**
 * The bag: its pictures, the larger the more the model attends to them. Pointing at one tells who asks to know (`point`).
 *
 * While somebody points at a picture, the pictures stay where they are; what changed meanwhile is drawn afterwards.
 */

import { custom, fill, h, keep, put } from '../dom.js';
import { short } from '../foreign.js';
import { percent } from '../format.js';
import { PERSONAL } from '../scopes.js';
import { texts } from '../texts.js';
import { icon, isIcon } from './icons.js';
import { Picture } from './picture.js';

/** @typedef {import('../types.js').BagEntry} BagEntry */

const SIDE = 3; // cells of the largest picture,
const FEW = 5; // and one more in a bag of so few items

export class Bag extends HTMLElement {
  #list = h('ul', { class: 'bag' });
  /** @type {BagEntry[] | null} what is drawn when nobody points */
  #later = null;
  /** @type {string | null} */
  #hovered = null;
  /** @type {string | null} */
  #focused = null;
  /** @type {string | null} */
  #pinned = null;

  connectedCallback() {
    if (!this.firstChild) this.append(this.#list);
  }

  /** The item that somebody points at. @returns {string | null} */
  get pointed() {
    return this.#hovered ?? this.#focused ?? this.#pinned;
  }

  /**
   * Show the items of a bag.
   * @param {BagEntry[]} items newest first
   */
  show(items) {
    if (this.pointed !== null) {
      this.#later = items;
      return;
    }
    this.#draw(items);
  }

  /** Show the items of another shopper: nothing of the one before stays. @param {BagEntry[]} items */
  start(items) {
    this.#hovered = this.#focused = this.#pinned = this.#later = null;
    this.#draw(items);
  }

  /** @param {BagEntry[]} items */
  #draw(items) {
    const heaviest = Math.max(...items.map((item) => item.weight ?? 0), 1e-9);
    const shown = items.toSorted((one, other) => (other.weight ?? -1) - (one.weight ?? -1));
    keep(this.#list, shown, (item) => item.item_id, (item) => this.#make(item), (tile, item) => update(tile, item, heaviest, items.length > FEW ? SIDE : SIDE + 1));
  }

  /** @param {BagEntry} item */
  #make({ item_id }) {
    const button = h('button', {
      type: 'button',
      'aria-pressed': 'false',
      onpointerenter: (event) => event instanceof PointerEvent && event.pointerType === 'mouse' && this.#point(() => (this.#hovered = item_id)),
      onpointerleave: () => this.#point(() => this.#hovered === item_id && (this.#hovered = null)),
      onfocus: () => button.matches(':focus-visible') && this.#point(() => (this.#focused = item_id)),
      onblur: () => this.#point(() => this.#focused === item_id && (this.#focused = null)),
      onclick: () => this.#point(() => (this.#pinned = this.#pinned === item_id ? null : item_id)),
    }, custom(Picture, { [PERSONAL]: true }), h('span', { class: 'badge' }));
    button.dataset['item'] = item_id;
    return h('li', {}, button);
  }

  /** @param {() => unknown} change */
  #point(change) {
    const before = this.pointed;
    change();
    for (const button of this.querySelectorAll('button')) button.setAttribute('aria-pressed', String(button.dataset['item'] === this.#pinned));
    if (this.pointed === before) return;
    if (this.pointed === null && this.#later) {
      this.#draw(this.#later);
      this.#later = null;
    }
    this.dispatchEvent(new CustomEvent('point', { detail: this.pointed }));
  }
}

/**
 * @param {HTMLElement} tile
 * @param {BagEntry} item
 * @param {number} heaviest weight of the largest picture
 * @param {number} most its side
 */
function update(tile, item, heaviest, most) {
  const { item_id, image_url, weight, not_scored } = item;
  const side = weight === null ? 1 : Math.max(1, Math.round(most * Math.sqrt(weight / heaviest)));
  tile.style.setProperty('--side', String(side));
  tile.classList.toggle('unscored', weight === null);
  const button = tile.querySelector('button');
  const picture = tile.querySelector('taste-picture');
  const badge = tile.querySelector('.badge');
  if (!button || !badge || !(picture instanceof Picture)) return;
  picture.show(image_url, item_id);
  const kind = strongest(item);
  const share = weight === null ? '' : percent(weight);
  put(badge, isIcon(kind) && icon(kind), side > 1 && h('span', {}, share));
  const why = not_scored ? texts.notScored[not_scored] : fill(texts.bag.share, { share }).join('');
  const type = texts.types[/** @type {keyof typeof texts.types} */ (kind)] ?? kind;
  const label = fill(texts.bag.label, { item: short(item_id, 80), why, type }).join('');
  button.setAttribute('aria-label', label);
  button.title = label;
}

/** The type that says most. @param {BagEntry} item */
function strongest({ types, not_scored }) {
  if (not_scored === 'returned') return 'return';
  return ['purchase', 'cart', 'view'].find((type) => type in types) ?? 'view';
}

customElements.define('taste-bag', Bag);
