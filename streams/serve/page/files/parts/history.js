/**
 * What somebody did, newest first: of each item the newest time of each type.
 */

import { custom, fill, h, keep, put } from '../dom.js';
import { short } from '../foreign.js';
import { ago, moment } from '../format.js';
import { PERSONAL } from '../scopes.js';
import { texts } from '../texts.js';
import { icon, isIcon } from './icons.js';
import { Picture } from './picture.js';

/** @typedef {{item_id: string, image_url: string, type: string, time: string}} Touch */

const MOST = 60;
const REFRESH = 15_000; // milliseconds after which times are written anew

/**
 * The touches of a bag, newest first.
 * @param {import('../types.js').BagEntry[]} items
 * @returns {Touch[]}
 */
export function touches(items) {
  return items
    .flatMap(({ item_id, image_url, types }) => Object.entries(types).map(([type, time]) => ({ item_id, image_url, type, time })))
    .sort((one, other) => Date.parse(other.time) - Date.parse(one.time));
}

export class History extends HTMLElement {
  #list = h('ol', { class: 'strip', tabindex: '0', 'aria-label': texts.history.title });
  /** @type {Touch[]} */
  #touches = [];
  #timer = 0;

  connectedCallback() {
    if (!this.firstChild) this.append(this.#list);
    this.#timer = setInterval(() => this.#draw(), REFRESH);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  /** @param {Touch[]} touches newest first */
  show(touches) {
    this.#touches = touches.slice(0, MOST);
    this.#draw();
  }

  #draw() {
    keep(this.#list, this.#touches, (one) => `${one.type} ${one.item_id} ${one.time}`, make, update);
  }
}

/** @param {Touch} touch */
function make({ item_id, image_url, type }) {
  const picture = custom(Picture, { [PERSONAL]: true });
  picture.show(image_url, item_id);
  const what = texts.types[/** @type {keyof typeof texts.types} */ (type)] ?? type;
  return h('li', { title: short(item_id, 200) }, picture, h('span', { class: 'did' }, isIcon(type) && icon(type), what), h('span', { class: 'unseen' }, fill(texts.history.item, { item: short(item_id) })), h('time', {}));
}

/** @param {HTMLElement} entry @param {Touch} touch */
function update(entry, { time }) {
  const shown = entry.querySelector('time');
  if (!shown) return;
  shown.dateTime = time;
  shown.title = moment(time);
  put(shown, ago(time));
}

customElements.define('taste-history', History);
