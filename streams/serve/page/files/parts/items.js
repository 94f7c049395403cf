/**
 * Items of the catalogue as cards.
 */

import { custom, fill, h, keep, put } from '../dom.js';
import { foreign, short } from '../foreign.js';
import { price } from '../format.js';
import { PERSONAL } from '../scopes.js';
import { addressOf } from '../screens.js';
import { texts } from '../texts.js';
import { Picture } from './picture.js';

/** @typedef {import('../types.js').RecommendedItem} RecommendedItem */

export class Items extends HTMLElement {
  #list = h('ul', { class: 'cards' });

  connectedCallback() {
    if (!this.firstChild) this.append(this.#list);
  }

  /**
   * Show items.
   * @param {RecommendedItem[]} items best first
   * @param {(item_id: string) => {url: string, name: string} | null} [reason] the picture that an item is there for
   */
  show(items, reason = () => null) {
    keep(this.#list, items, (item) => item.item_id, make, (card, item) => update(card, item, item.because === null ? null : reason(item.because)));
  }
}

/** @param {RecommendedItem} item */
function make({ item_id }) {
  return h('li', { class: 'card' }, h('a', { href: addressOf('catalogue', 'like', item_id) }, custom(Picture), h('span', { class: 'title' })), h('p', { class: 'facts small muted' }), h('p', { class: 'because small muted' }));
}

/**
 * @param {HTMLElement} card
 * @param {RecommendedItem} item
 * @param {{url: string, name: string} | null} reason
 */
function update(card, item, reason) {
  const [picture, title, facts, because] = ['taste-picture', '.title', '.facts', '.because'].map((one) => card.querySelector(one));
  if (!(picture instanceof Picture) || !title || !facts || !because) return;
  const name = item.title || item.item_id;
  picture.show(item.image_url, item.item_id);
  put(title, foreign(name, 70));
  const known = [item.price === null ? null : price(item.price), item.in_stock === null ? null : item.in_stock ? texts.items.inStock : texts.items.soldOut].filter((one) => one !== null);
  put(facts, known.join(' · '), known.length > 0 && item.url && ' · ', item.url && h('a', { href: safe(item.url), target: '_blank', rel: 'noopener noreferrer' }, texts.items.shop));
  if (!reason) {
    put(because);
    return;
  }
  const small = custom(Picture, { class: 'thumb', [PERSONAL]: true });
  small.show(reason.url, reason.name);
  put(because, small, h('span', {}, fill(texts.items.because, { item: short(reason.name, 40) })));
}

/** The address of a page of the shop, if it is one. @param {string} url */
function safe(url) {
  return /^https?:\/\//i.test(url) ? url : null;
}

customElements.define('taste-items', Items);
