/**
 * The screen of a shopper: whose taste it is, the bag, the categories, the items, what they did. Follows whoever is active, or one id.
 */

import { ApiError } from '../api.js';
import { connection } from '../connection.js';
import { custom, fill, h, keep, put } from '../dom.js';
import { foreign, short } from '../foreign.js';
import { ago } from '../format.js';
import { Bag } from '../parts/bag.js';
import { Categories, sentence } from '../parts/categories.js';
import { CopyLink } from '../parts/copy-link.js';
import { Filter } from '../parts/filter.js';
import { History, touches } from '../parts/history.js';
import { Items } from '../parts/items.js';
import { PERSONAL, scopes } from '../scopes.js';
import { BaseScreen } from '../screen.js';
import { addressOf } from '../screens.js';
import { Shopper } from '../shopper.js';
import { follow } from '../stream.js';
import { texts } from '../texts.js';

/** @typedef {{count: number, changes: {user_id: string}[]}} Changes */

const DWELL = 4000; // milliseconds that a shopper is shown at least, while whoever is active is followed
const RECENT = 8; // shoppers who are offered
const EVERY = 8000; // milliseconds between two readings without an event: a broker that is lost sends none

export class Screen extends BaseScreen {
  #bag = custom(Bag);
  #categories = custom(Categories);
  #filter = custom(Filter);
  #items = custom(Items);
  #history = custom(History);
  #link = custom(CopyLink);
  #field = h('input', { type: 'search', name: 'id', 'aria-label': texts.shopper.id, placeholder: texts.shopper.id, maxlength: 256, autocomplete: 'off', spellcheck: 'false', enterkeyhint: 'go', [PERSONAL]: true });
  #toggle = h('button', { type: 'button', onclick: () => this.#open(null) }, texts.shopper.follow);
  #recent = h('ul', { class: 'chips', 'aria-label': texts.shopper.active });
  #title = h('h1', { [PERSONAL]: true });
  #sentence = h('p', { class: 'sentence' });
  #state = h('p', { class: 'small muted state' });
  #what = h('p', { class: 'small muted what', 'aria-live': 'polite' });
  #empty = h('p', { class: 'empty' });
  #body = h('div', { class: 'shopper-body' });
  #bagEmpty = h('p', { class: 'empty' }, texts.shopper.bagEmpty);
  #itemsEmpty = h('p', { class: 'empty' }, texts.shopper.itemsEmpty);

  /** @type {Shopper | null} */
  #shopper = null;
  /** @type {string | null} the id in the address; null to follow whoever is active */
  #id = null;
  /** @type {string[]} newest first */
  #active = [];
  #since = 0; // when the shopper was shown
  #stream = new AbortController();
  /** @type {import('../types.js').WithoutAnswer | null} */
  #without = null;
  #isHidden = false; // whether ids are pseudonyms

  /** @param {string[]} place the id, or nothing to follow whoever is active */
  show([id = '']) {
    this.#id = id || null;
    this.#toggle.setAttribute('aria-pressed', String(this.#id === null));
    this.#recent.classList.toggle('following', this.#id === null);
    this.#field.value = id;
    this.#stream.abort();
    this.#stream = new AbortController();
    const path = this.#id === null ? '/v1/stream' : `/v1/stream?user_id=${encodeURIComponent(this.#id)}`;
    const opened = () => void (this.#whoAmI(), this.again());
    void follow(path, { message: (_, data) => this.#changed(data), opened, refused: (error) => this.#drawError(error) }, this.#stream.signal);
    if (this.#id !== null) this.#look(this.#id);
    else this.#draw();
    return this.#id === null || document.documentElement.classList.contains('blurred') ? texts.shopper.title : short(id, 60);
  }

  build() {
    const timer = setInterval(() => document.hidden || connection.since || this.again(), EVERY);
    this.left.addEventListener('abort', () => {
      clearInterval(timer);
      this.#stream.abort();
      this.#shopper?.close();
    });
    const form = h('form', { class: 'find', role: 'search', onsubmit: (event) => (event.preventDefault(), this.#open(this.#field.value.trim())) }, this.#field, h('button', {}, texts.shopper.show), this.#toggle);
    this.append(
      h('div', { class: 'tools' }, form, this.#recent),
      this.#empty,
      this.#body,
    );
    this.#body.append(
      h('section', { class: 'who' }, h('div', { class: 'whose' }, this.#title, this.#link), this.#sentence, this.#state),
      h('section', { class: 'panel in-bag' }, h('header', {}, h('h2', {}, texts.bag.title), h('p', { class: 'small muted' }, texts.bag.how)), this.#bag, this.#bagEmpty),
      h('section', { class: 'panel in-categories' }, h('header', {}, h('h2', {}, texts.categories.title)), this.#what, this.#categories),
      h('section', { class: 'panel in-history' }, h('header', {}, h('h2', {}, texts.history.title)), this.#history),
      h('section', { class: 'panel in-items' }, h('header', {}, h('h2', {}, texts.items.title), h('p', { class: 'small muted' }, texts.items.how)), this.#filter, this.#items, this.#itemsEmpty),
    );
    this.#filter.addEventListener('change', () => {
      if (this.#shopper) this.#shopper.filter = this.#filter.query;
      this.again();
    });
    this.#bag.addEventListener('point', () => void this.#compare());
  }

  /** @param {string | null} id */
  #open(id) {
    location.hash = id ? addressOf('shopper', id) : addressOf('shopper');
  }

  again() {
    void this.#shopper?.read();
  }

  /** Show a shopper. @param {string} id */
  #look(id) {
    if (this.#shopper?.id === id) return;
    this.#shopper?.close();
    const shopper = new Shopper(id);
    shopper.filter = this.#filter.query;
    this.#shopper = shopper;
    this.#without = null;
    this.#since = Date.now();
    this.#link.offer(addressOf('shopper', id));
    this.#bag.start([]);
    shopper.addEventListener('change', () => shopper === this.#shopper && this.#read());
    void shopper.read();
  }

  /** Something was read of the shopper. */
  #read() {
    this.#draw();
    if (this.#bag.pointed !== null) void this.#compare(); // what somebody asks about may have changed, too
  }

  /** @param {Changes} data */
  #changed({ changes }) {
    const users = changes.map((one) => one.user_id).reverse();
    if (this.#id !== null) {
      this.again();
      return;
    }
    this.#active = [...new Set([...users, ...this.#active])].slice(0, RECENT);
    const [newest] = users;
    if (!newest || this.#isHidden) return;
    const current = this.#shopper?.id;
    const stays = current !== undefined && (Date.now() - this.#since < DWELL || this.#bag.pointed !== null);
    if (current === undefined || (!stays && !users.includes(current))) this.#look(newest);
    else if (users.includes(current)) this.again();
    this.#drawRecent();
    if (this.#empty.isConnected && !this.#shopper) this.#draw();
  }

  /** Learn whether the token permits names: the stream has none without that. */
  async #whoAmI() {
    const granted = await scopes();
    this.#isHidden = granted.size > 0 && !granted.has('names');
    this.#draw();
  }

  /** Ask what the categories would be without the item that somebody points at. */
  async #compare() {
    const signal = this.next();
    const { pointed } = this.#bag;
    if (pointed !== this.#without?.item) this.#without = null;
    const shopper = this.#shopper;
    if (pointed === null || !shopper) {
      this.#drawCategories();
      return;
    }
    try {
      const answer = await shopper.without(pointed, signal);
      if (shopper !== this.#shopper || this.#bag.pointed !== pointed) return;
      this.#without = answer;
      this.#drawCategories();
    } catch (error) {
      if (!(error instanceof ApiError) && !(error instanceof DOMException)) throw error;
    }
  }

  // -- drawing

  /** @param {ApiError} error */
  #drawError(error) {
    put(this.#empty, this.refusal(error));
    this.#empty.hidden = false;
  }

  #draw() {
    const shopper = this.#shopper;
    const known = shopper?.known ?? null;
    this.#drawRecent();
    this.#body.hidden = known === null;
    this.#empty.hidden = known !== null && !shopper?.error;
    if (shopper?.error && shopper.error.status) this.#drawError(shopper.error);
    else if (!known) put(this.#empty, this.#isHidden ? texts.shopper.hidden : this.#id === null ? texts.shopper.waiting : texts.shopper.reading);
    if (!shopper || !known) return;
    const { user, taste } = known;
    const first = taste.categories[0];
    put(this.#title, foreign(shopper.id, 80));
    put(this.#sentence, first && fill(user === null ? texts.shopper.unknown : taste.cold_start ? texts.shopper.cold : texts.shopper.wants, { category: h('strong', {}, foreign(first.category, 80)) }));
    put(this.#state, stateOf(taste), this.#isHidden && [' ', texts.shopper.blurred]);
    this.#bag.show(user?.items ?? []);
    this.#bagEmpty.hidden = Boolean(user?.items.length);
    this.#history.show(touches(user?.items ?? []));
    const pictures = new Map((user?.items ?? []).map((item) => [item.item_id, { url: item.image_url, name: item.item_id }]));
    this.#items.show(taste.items, (item_id) => pictures.get(item_id) ?? null);
    this.#filter.offer(taste.items);
    put(this.#itemsEmpty, this.#filter.isSet ? texts.filter.none : texts.shopper.itemsEmpty);
    this.#itemsEmpty.hidden = taste.items.length > 0;
    this.#drawCategories();
  }

  #drawCategories() {
    const known = this.#shopper?.known;
    if (!known) return;
    const { taste, before } = known;
    const { pointed } = this.#bag;
    const answer = this.#without;
    if (answer && answer.item === pointed) {
      const without = new Map(answer.categories.map((one) => [one.category, one]));
      this.#categories.show(taste.categories.map(({ category, score }) => ({ category, score: without.get(category)?.without ?? score, other: without.get(category)?.score ?? null })));
      put(this.#what, sentence(answer, foreign(answer.item, 48)));
      this.#categories.classList.add('without');
      return;
    }
    this.#categories.classList.remove('without');
    this.#categories.show(taste.categories.map(({ category, score }) => ({ category, score, other: before?.get(category) ?? null })));
    put(this.#what, pointed !== null ? texts.categories.asking : before ? texts.categories.before : texts.categories.now);
  }

  #drawRecent() {
    const others = this.#isHidden ? [] : this.#active;
    keep(this.#recent, others, (id) => id, (id) => h('li', {}, h('a', { class: 'button small', href: addressOf('shopper', id), [PERSONAL]: true }, foreign(id, 24))), (chip, id) => chip.classList.toggle('shown', id === this.#shopper?.id));
  }
}

/**
 * When the last event was, and how old the answer is if it is.
 * @param {import('../types.js').RecommendationAnswer} taste
 */
function stateOf({ timestamp, state }) {
  const last = timestamp === null ? [] : fill(texts.shopper.last, { ago: ago(timestamp) });
  if (state.source === 'live') return last;
  const age = Math.round(state.age ?? 0);
  return [...last, ' ', h('strong', { class: 'old' }, fill(texts.state[state.source], { age, lag: state.lag ?? '?' }))];
}

customElements.define('shopper-screen', Screen);
