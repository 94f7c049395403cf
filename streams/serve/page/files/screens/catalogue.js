/**
 * The screen of the catalogue: what looks like an item or like a picture, what is new, which items have the same picture, what bags
 * hold, what has no picture.
 */

import { ask, segment } from '../api.js';
import { custom, fill, h, keep, put } from '../dom.js';
import { foreign, short } from '../foreign.js';
import { ago, count, moment, now, percent, price } from '../format.js';
import { Duplicates, SAME } from '../parts/duplicates.js';
import { Filter } from '../parts/filter.js';
import { Items } from '../parts/items.js';
import { Picker } from '../parts/picker.js';
import { Picture } from '../parts/picture.js';
import { BaseScreen } from '../screen.js';
import { addressOf } from '../screens.js';
import { texts } from '../texts.js';
import { prepared } from '../upload.js';

/**
 * @typedef {import('../types.js').CatalogueItem} CatalogueItem
 * @typedef {import('../types.js').Arrival} Arrival
 * @typedef {import('../types.js').TasteSample} TasteSample
 * @typedef {'new' | 'duplicates' | 'held' | 'without_picture'} Listing
 */

/** @type {Listing[]} */
const LISTINGS = ['new', 'duplicates', 'held', 'without_picture'];
const SIMILAR = 24; // items
const AGAIN = 3000; // milliseconds until the page asks how far a count is
const KEPT = 90 * 86_400_000; // milliseconds for which there are dead letters
const TWIN = 0.997; // cosine from which two pictures are nearly the same: `least` of the API

export class Screen extends BaseScreen {
  #field = h('input', { type: 'search', name: 'id', 'aria-label': texts.catalogue.id, placeholder: texts.catalogue.id, maxlength: 256, autocomplete: 'off', spellcheck: 'false', enterkeyhint: 'search' });
  #picker = custom(Picker, { single: true });
  #tabs = h('ul', { class: 'chips', 'aria-label': texts.catalogue.listings }, LISTINGS.map((name) => h('li', {}, h('a', { class: 'button small', href: addressOf('catalogue', name), 'data-name': name }, texts.catalogue[name]))));
  #heading = h('h2');
  #how = h('p', { class: 'small muted' });
  #progress = h('p', { class: 'small muted progress' });
  #subject = h('div', { class: 'subject' });
  #filter = custom(Filter);
  #similar = custom(Items);
  #listed = h('ul', { class: 'cards' });
  #duplicates = custom(Duplicates);
  #empty = h('p', { class: 'empty' });
  #results = h('section', { class: 'panel' }, h('header', {}, this.#heading, this.#how), this.#progress, this.#subject, this.#filter, this.#similar, this.#listed, this.#duplicates, this.#empty);
  /** @type {string[]} */
  #place = [];
  /** @type {File | null} a picture that is searched by */
  #file = null;
  /** @type {string | null} its object URL */
  #url = null;

  /** @param {string[]} place a listing; or `like` and an item id */
  show(place) {
    this.#place = place;
    void this.again();
    return place[0] === 'like' && place[1] ? short(place[1], 60) : texts.catalogue.title;
  }

  build() {
    this.left.addEventListener('abort', () => this.#release());
    const search = (/** @type {Event} */ event) => {
      event.preventDefault();
      const id = this.#field.value.trim();
      if (id) location.hash = addressOf('catalogue', 'like', id);
    };
    this.append(
      h('h1', {}, texts.catalogue.title),
      h('section', { class: 'panel search' }, h('form', { class: 'find', role: 'search', onsubmit: search }, h('label', {}, h('span', { class: 'small muted' }, texts.catalogue.byId), this.#field), h('button', {}, texts.catalogue.search)), this.#picker),
      this.#tabs,
      this.problem,
      this.#results,
    );
    this.#picker.addEventListener('files', (event) => event instanceof CustomEvent && void this.#likePicture(event.detail[0]));
    this.#duplicates.addEventListener('more', () => {
      const signal = this.next();
      void this.tried(this.#duplicates.read(signal, true), signal);
    });
    this.#filter.addEventListener('change', () => void (this.#file ? this.#likePicture(this.#file) : this.again()));
  }

  #release() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = this.#file = null;
  }

  async again() {
    this.#release();
    const [name, id] = this.#place;
    const isLike = name === 'like' && id;
    for (const link of this.#tabs.querySelectorAll('a')) {
      const isShown = !isLike && link.dataset['name'] === (name || 'new');
      link.parentElement?.classList.toggle('shown', isShown);
      if (isShown) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
    await (isLike ? this.#likeItem(id) : this.#list(LISTINGS.find((one) => one === name) ?? 'new'));
  }

  /** @param {Listing} name */
  async #list(name) {
    const signal = this.next();
    if (name === 'duplicates') return this.#listDuplicates(signal);
    const path = name === 'new' ? '/v1/items:arrivals?n=48' : `/v1/items?which=${name}&n=48`;
    /** @type {{items: (CatalogueItem | Arrival)[], sample?: TasteSample} | null} */
    const found = await this.#tried(ask(path, { signal }), signal);
    if (!found) return;
    const { items, sample } = found;
    this.#titled(name);
    this.#filter.offer(items);
    keep(this.#listed, items, (item) => item.item_id, make, (card, item) => update(card, item, sample));
    this.#none(items.length, texts.catalogue.none[name]);
    if (sample && items.length) {
      const counts = { bags: count(sample.bags), recommended: count(sample.recommended) };
      put(this.#progress, fill(sample.complete ? texts.catalogue.sampled : texts.catalogue.sampling, counts));
      if (!sample.complete) this.#later(signal);
    }
    if (name === 'without_picture' && items.length) await this.#explain(items, signal);
  }

  /** @param {AbortSignal} signal */
  async #listDuplicates(signal) {
    /** @type {import('../types.js').DuplicatesAnswer | null} */
    const found = await this.#tried(this.#duplicates.read(signal), signal);
    if (!found) return;
    this.#titled('duplicates');
    this.#duplicates.hidden = found.groups.length === 0;
    keep(this.#listed, /** @type {CatalogueItem[]} */ ([]), (item) => item.item_id, make, update);
    const counts = { groups: count(found.found), items: count(found.items), left: count(found.left ?? 0) };
    const { duplicates } = texts;
    put(this.#progress, found.found > 0 && [...fill(found.found === 1 ? duplicates.foundOne : duplicates.found, counts), ' '], found.left === null ? duplicates.begins : found.left > 0 && fill(duplicates.left, counts));
    this.#none(found.left === 0 ? found.found : 1, texts.catalogue.none.duplicates);
    if (found.left !== 0) this.#later(signal);
  }

  /** Ask again, as long as nothing else is asked. @param {AbortSignal} signal */
  #later(signal) {
    const timer = setTimeout(() => void this.again(), AGAIN);
    signal.addEventListener('abort', () => clearTimeout(timer));
  }

  /** Say what is listed. @param {Listing} name */
  #titled(name) {
    put(this.#heading, texts.catalogue[name]);
    put(this.#how, texts.catalogue.how[name]);
    put(this.#subject);
    put(this.#progress);
    this.#similar.show([]);
    this.#filter.hidden = this.#duplicates.hidden = true;
  }

  /**
   * Say why pictures cannot be had, where there is a dead letter and the token may read it.
   * @param {CatalogueItem[]} items
   * @param {AbortSignal} signal
   */
  async #explain(items, signal) {
    const since = new Date(now() - KEPT).toISOString();
    /** @type {import('../types.js').LettersAnswer | null} */
    const found = await ask(`/v1/dead-letters?since=${since}&limit=500`, { signal }).catch(() => null);
    if (!found || signal.aborted) return;
    const reasons = new Map(found.letters.toReversed().filter(({ event_id }) => !event_id).map((one) => [`${one.user_id} ${one.host}`, one]));
    keep(this.#listed, items, (item) => item.item_id, make, (card, item) => {
      const letter = reasons.get(`${item.item_id} ${URL.canParse(item.image_url) ? new URL(item.image_url).hostname : ''}`);
      const near = card.querySelector('.near');
      if (!letter || !near) return;
      const why = h('a', { href: addressOf('letters', `user_id=${encodeURIComponent(item.item_id)}&since=${KEPT / 1000}`), title: short(letter.error, 300) }, foreign(letter.reason, 40));
      put(near, h('span', {}, fill(texts.catalogue.because, { host: foreign(hostOf(item.image_url), 60), why })));
    });
  }

  /** @param {string} id */
  async #likeItem(id) {
    this.#field.value = id;
    const signal = this.next();
    const path = `/v1/items/${segment(id)}`;
    /** @type {[CatalogueItem, {items: import('../types.js').RecommendedItem[]}] | null} */
    const found = await this.#tried(ask(path, { signal }).then(async (item) => [item, item.pictured ? await ask(`${path}/similar?n=${SIMILAR}${this.#filter.query}`, { signal }) : { items: [] }]), signal);
    if (!found) return;
    const [item, { items }] = found;
    const card = make(item);
    update(card, item);
    this.#like(h('ul', { class: 'cards one' }, card), items, item.pictured ? texts.catalogue.noneSimilar : texts.catalogue.notPictured);
  }

  /** @param {File} file */
  async #likePicture(file) {
    this.#release();
    const signal = this.next();
    const url = URL.createObjectURL(file);
    this.#url = url;
    this.#file = file;
    const form = new FormData();
    form.append('view', await prepared(file), file.name || 'picture');
    /** @type {{items: import('../types.js').RecommendedItem[]} | null} */
    const found = await this.#tried(ask(`/v1/items/similar?n=${SIMILAR}${this.#filter.query}`, { method: 'POST', body: form, signal }), signal);
    if (!found || this.#url !== url) return;
    const picture = custom(Picture);
    picture.show(url, file.name, { alt: short(file.name, 80) });
    this.#like(h('ul', { class: 'cards one' }, h('li', { class: 'card' }, picture, h('span', { class: 'title' }, foreign(file.name)))), found.items, texts.catalogue.noneSimilar);
  }

  /**
   * @param {HTMLElement} subject
   * @param {import('../types.js').RecommendedItem[]} items
   * @param {string} none
   */
  #like(subject, items, none) {
    put(this.#heading, texts.catalogue.like);
    put(this.#how, texts.catalogue.howLike);
    put(this.#subject, subject);
    put(this.#progress);
    this.#duplicates.hidden = true;
    this.#similar.show(items);
    this.#filter.hidden = false;
    this.#filter.offer(items);
    keep(this.#listed, [], (item) => item.item_id, make, update);
    this.#none(items.length, this.#filter.isSet ? texts.filter.none : none);
  }

  /** @param {number} many @param {string} text */
  #none(many, text) {
    put(this.#empty, many === 0 && text);
    this.#empty.hidden = many > 0;
  }

  /**
   * As `tried`, with the results hidden if they are of another question.
   * @template T
   * @param {Promise<T>} asked
   * @param {AbortSignal} signal
   */
  async #tried(asked, signal) {
    const found = await this.tried(asked, signal);
    this.#results.hidden = !this.problem.hidden;
    return found;
  }
}

/** @param {CatalogueItem} item */
function make({ item_id }) {
  return h('li', { class: 'card' }, h('a', { href: addressOf('catalogue', 'like', item_id) }, custom(Picture), h('span', { class: 'title' })), h('p', { class: 'tastes small', hidden: true }), h('p', { class: 'facts small muted' }), h('p', { class: 'near small muted' }));
}

/**
 * @param {HTMLElement} card
 * @param {CatalogueItem & {tastes?: number | null}} item
 * @param {TasteSample} [sample] of the tastes that were counted
 */
function update(card, item, sample) {
  const [picture, title, tastes, facts, near] = ['taste-picture', '.title', '.tastes', '.facts', '.near'].map((one) => card.querySelector(one));
  if (!(picture instanceof Picture) || !title || !(tastes instanceof HTMLElement) || !facts || !near) return;
  tastes.hidden = !sample;
  put(tastes, sample && met(item.tastes ?? null, sample));
  picture.show(item.image_url, item.item_id);
  put(title, foreign(item.title || item.item_id, 70));
  const known = [
    item.price === null ? null : price(item.price),
    item.in_stock === null ? null : item.in_stock ? texts.items.inStock : texts.items.soldOut,
    item.holders ? held(item.holders) : null,
  ].filter((one) => one !== null);
  put(facts, known.join(' · '), Boolean(item.arrived && known.length) && ' · ', item.arrived && h('time', { datetime: item.arrived, title: moment(item.arrived) }, ago(item.arrived)));
  put(near, item.pictured ? nearest(item) : fill(texts.catalogue.from, { host: foreign(hostOf(item.image_url), 60) }));
  near.classList.toggle('twin', (item.nearest?.score ?? 0) >= TWIN);
}

/** How many tastes an item meets. @param {number | null} tastes @param {TasteSample} sample */
function met(tastes, { bags, complete }) {
  if (tastes === null) return [texts.catalogue.uncounted];
  if (!complete && !tastes) return [texts.catalogue.counting];
  return fill(texts.catalogue.met, { count: h('strong', {}, count(tastes)), bags: count(bags) });
}

/** What is said of the item that is most like another. @param {CatalogueItem} item */
function nearest({ nearest }) {
  if (!nearest) return [];
  const picture = custom(Picture, { class: 'thumb' });
  picture.show(nearest.image_url, nearest.item_id);
  const values = { item: h('a', { href: addressOf('catalogue', 'like', nearest.item_id) }, foreign(nearest.item_id, 40)), share: percent(Math.floor(nearest.score * 100) / 100) };
  return [picture, h('span', {}, fill(nearest.score >= SAME ? texts.catalogue.twin : nearest.score >= TWIN ? texts.catalogue.nearTwin : texts.catalogue.nearest, values), nearest.holders > 0 && `, ${held(nearest.holders)}`)];
}

/** @param {number} holders */
function held(holders) {
  return fill(holders === 1 ? texts.catalogue.holder : texts.catalogue.holders, { count: count(holders) }).join('');
}

/** @param {string} url */
function hostOf(url) {
  return URL.canParse(url) ? new URL(url).host : '?';
}

customElements.define('catalogue-screen', Screen);
