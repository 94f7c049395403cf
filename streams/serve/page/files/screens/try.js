/**
 * The screen to try pictures of one's own: what they say, which one spoke, and what is like them.
 */

import { custom, fill, h, keep, put } from '../dom.js';
import { foreign, short } from '../foreign.js';
import { percent } from '../format.js';
import { Categories } from '../parts/categories.js';
import { icon } from '../parts/icons.js';
import { Items } from '../parts/items.js';
import { Picker } from '../parts/picker.js';
import { Picture } from '../parts/picture.js';
import { BaseScreen } from '../screen.js';
import { texts } from '../texts.js';
import { MOST, Tray } from '../tray.js';

/** @typedef {import('../tray.js').Tried} Tried */

/** @type {import('../tray.js').Type[]} */
const TYPES = ['view', 'cart', 'purchase'];

export class Screen extends BaseScreen {
  #tray = new Tray();
  #picker = custom(Picker);
  #list = h('ul', { class: 'tried' });
  #categories = custom(Categories);
  #items = custom(Items);
  #count = h('p', { class: 'small muted', role: 'status' });
  #clear = h('button', { type: 'button', onclick: () => this.#tray.clear() }, texts.tried.clear);
  #head = h(
    'div',
    { class: 'tray-head' },
    this.#count,
    h('p', { class: 'small muted legend', 'aria-hidden': 'true' }, TYPES.map((type) => h('span', {}, icon(type), texts.types[type]))),
    this.#clear,
  );
  #sentence = h('p', { class: 'sentence', 'aria-live': 'polite' });
  #answer = h('div', { class: 'try-answer' });
  #itemsEmpty = h('p', { class: 'empty' }, texts.shopper.itemsEmpty);

  show() {
    this.#draw();
    return texts.tried.title;
  }

  again() {
    this.#tray.retry();
  }

  build() {
    this.#answer.append(
      h('section', { class: 'panel in-categories' }, h('header', {}, h('h2', {}, texts.categories.title)), this.#categories),
      h('section', { class: 'panel in-items' }, h('header', {}, h('h2', {}, texts.items.title)), this.#items, this.#itemsEmpty),
    );
    this.append(
      h('div', { class: 'intro' }, h('h1', {}, texts.tried.heading), h('p', { class: 'muted' }, texts.tried.nothingStored)),
      h('section', { class: 'panel' }, this.#picker, this.#head, this.problem, this.#list),
      this.#sentence,
      this.#answer,
    );
    this.#picker.addEventListener('files', (event) => event instanceof CustomEvent && this.#tray.add(event.detail));
    this.#tray.addEventListener('change', () => this.#draw());
    this.left.addEventListener('abort', () => this.#tray.clear());
  }

  #draw() {
    const { pictures, answer, error, left, busy } = this.#tray;
    const spoke = answer && loudest(pictures);
    keep(this.#list, pictures, (one) => one.key, (one) => this.#make(one), (tile, one) => update(tile, one, one === spoke));
    this.#head.hidden = pictures.length === 0;
    this.#picker.classList.toggle('small-drop', pictures.length > 0);
    const notes = [fill(texts.tried.count, { count: pictures.length, most: MOST }).join(''), left ? fill(texts.tried.left, { left, most: MOST }).join('') : ''];
    put(this.#count, pictures.length > 0 && notes.filter(Boolean).join(' '));
    put(this.problem, error && this.refusal(error));
    this.problem.hidden = error === null;
    this.#answer.hidden = answer === null;
    this.#answer.classList.toggle('busy', busy);
    put(this.#sentence, answer ? sentence(answer, spoke) : busy ? texts.tried.looking : null);
    if (!answer) return;
    this.#categories.show(answer.categories.map(({ category, score }) => ({ category, score, other: null })));
    this.#items.show(answer.items, (item_id) => {
      const one = this.#tray.named(item_id);
      return one && { url: one.url, name: one.file.name };
    });
    this.#itemsEmpty.hidden = answer.items.length > 0;
  }

  /** @param {Tried} picture */
  #make({ key, file, url }) {
    const shown = custom(Picture);
    shown.show(url, file.name, { alt: short(file.name, 80) });
    const name = `type-${key}`;
    const choices = TYPES.map((type) =>
      h('label', { title: texts.types[type] }, h('input', { type: 'radio', name, value: type, checked: type === 'view', onchange: () => this.#tray.setType(key, type) }), icon(type), h('span', { class: 'unseen' }, texts.types[type])),
    );
    return h(
      'li',
      {},
      shown,
      h('button', { type: 'button', class: 'remove', 'aria-label': fill(texts.tried.remove, { name: short(file.name, 60) }).join(''), onclick: () => this.#remove(key) }, icon('close')),
      h('span', { class: 'badge', hidden: true }),
      h('fieldset', { class: 'types' }, h('legend', { class: 'unseen' }, fill(texts.tried.type, { name: short(file.name, 60) })), choices),
      h('p', { class: 'small fate' }),
    );
  }

  /** Remove a picture, and leave the focus on its neighbour. @param {string} key */
  #remove(key) {
    const tiles = [...this.#list.children];
    const place = this.#tray.pictures.findIndex((one) => one.key === key);
    const next = tiles[place + 1] ?? tiles[place - 1];
    this.#tray.remove(key);
    const focus = next?.querySelector('.remove') ?? this.#picker.querySelector('input');
    if (focus instanceof HTMLElement) focus.focus();
  }
}

/** The picture with the most attention. @param {Tried[]} pictures */
function loudest(pictures) {
  return pictures.reduce((/** @type {Tried | null} */ best, one) => ((one.fate?.weight ?? 0) > (best?.fate?.weight ?? 0) ? one : best), null);
}

/**
 * @param {import('../types.js').TasteAnswer} answer
 * @param {Tried | null} spoke
 */
function sentence({ categories }, spoke) {
  const first = categories[0];
  if (!first || !spoke) return [texts.tried.nothingUsable];
  const category = h('strong', {}, foreign(first.category, 80));
  return fill(texts.tried.says, { category, name: foreign(spoke.file.name, 40), share: percent(spoke.fate?.weight ?? 0) });
}

/**
 * @param {HTMLElement} tile
 * @param {Tried} picture
 * @param {boolean} isLoudest
 */
function update(tile, { fate }, isLoudest) {
  const badge = tile.querySelector('.badge');
  const told = tile.querySelector('.fate');
  if (!(badge instanceof HTMLElement) || !told) return;
  badge.hidden = fate?.weight == null;
  put(badge, fate?.weight != null && percent(fate.weight));
  tile.classList.toggle('loudest', isLoudest);
  tile.classList.toggle('unusable', Boolean(fate?.reason));
  put(told, fate?.reason && foreign(fate.detail, 120));
}

customElements.define('try-screen', Screen);
