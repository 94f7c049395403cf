/**
 * The screen of dead letters: find them, look at their bytes, and send their events again. Needs the scope `admin`.
 */

import { ApiError, ask } from '../api.js';
import { custom, fill, h, keep, put } from '../dom.js';
import { foreign, short } from '../foreign.js';
import { ago, count, moment, now } from '../format.js';
import { bytes } from '../parts/bytes.js';
import { Redrive } from '../parts/redrive.js';
import { BaseScreen } from '../screen.js';
import { addressOf } from '../screens.js';
import { texts } from '../texts.js';

/**
 * @typedef {import('../types.js').LetterSummary} LetterSummary
 * @typedef {import('../types.js').LettersAnswer} LettersAnswer
 * @typedef {import('../types.js').LetterDocument} LetterDocument
 */

const LISTED = 100; // letters
const DAY = 86_400;
const PERIODS = [3600, DAY, 7 * DAY, 90 * DAY]; // seconds
/** @type {('reason' | 'topic' | 'host' | 'user_id')[]} */
const CONDITIONS = ['reason', 'topic', 'host', 'user_id'];

export class Screen extends BaseScreen {
  #fields = CONDITIONS.map((name) => h('input', { type: 'search', name, list: `known-${name}`, maxlength: 256, autocomplete: 'off', spellcheck: 'false' }));
  #period = h('select', { name: 'since' }, PERIODS.map((seconds, index) => h('option', { value: seconds }, texts.letters.periods[index])));
  #known = CONDITIONS.map((name) => h('datalist', { id: `known-${name}` }));
  #heading = h('h2');
  #all = h('button', { type: 'button', class: 'small', onclick: () => this.#choose(true) }, texts.letters.all);
  #redrive = custom(Redrive);
  #list = h('ol', { class: 'letters' });
  #empty = h('p', { class: 'empty', hidden: true }, texts.letters.empty);
  #results = h('section', { class: 'panel', hidden: true }, h('header', {}, this.#heading, this.#all), this.#redrive, this.#list, this.#empty);

  /** @param {string[]} place conditions, as in the query of an address */
  show([given = '']) {
    const conditions = new URLSearchParams(given);
    this.#fields.forEach((field) => (field.value = conditions.get(field.name) ?? ''));
    this.#period.value = conditions.get('since') ?? String(DAY);
    if (this.#period.selectedIndex < 0) this.#period.value = String(DAY);
    this.again();
    return texts.letters.title;
  }

  build() {
    const find = (/** @type {Event} */ event) => {
      event.preventDefault();
      const address = addressOf('letters', this.#conditions().toString());
      if (location.hash === address) this.again();
      else location.hash = address;
    };
    const labelled = (/** @type {string} */ text, /** @type {HTMLElement} */ field) => h('label', {}, h('span', { class: 'small muted' }, text), field);
    this.append(
      h('h1', {}, texts.letters.title),
      h('p', { class: 'muted' }, texts.letters.how),
      h(
        'form',
        { class: 'panel conditions', role: 'search', onsubmit: find },
        this.#fields.map((field, index) => labelled(texts.letters.conditions[CONDITIONS[index] ?? 'reason'], field)),
        labelled(texts.letters.since, this.#period),
        h('button', { class: 'first' }, texts.letters.find),
        this.#known,
      ),
      this.problem,
      this.#results,
    );
    this.#list.addEventListener('change', () => this.#chosen());
    this.#redrive.addEventListener('sent', () => {
      this.#choose(false);
      this.again();
    });
  }

  /** What is filled in. */
  #conditions() {
    const given = this.#fields.map((field) => [field.name, field.value.trim()]).filter(([, value]) => value);
    return new URLSearchParams([...given, ['since', this.#period.value]]);
  }

  async again() {
    const signal = this.next();
    const query = this.#conditions();
    query.set('since', new Date(now() - Number(this.#period.value) * 1000).toISOString());
    query.set('limit', String(LISTED));
    /** @type {LettersAnswer | null} */
    const answer = await this.tried(ask(`/v1/dead-letters?${query}`, { signal }), signal);
    if (answer) this.#draw(answer);
    else if (!this.problem.hidden) this.#results.hidden = true; // they are of another question
  }

  /** @param {ApiError} error */
  refusal(error) {
    return error.reason === 'not_permitted' ? [texts.letters.notPermitted] : super.refusal(error);
  }

  /** @param {LettersAnswer} answer */
  #draw({ letters, matching }) {
    put(this.#heading, fill(matching === 1 ? texts.letters.foundOne : matching > letters.length ? texts.letters.newest : texts.letters.found, { count: count(matching), listed: count(letters.length) }));
    keep(this.#list, letters, placeOf, make, update);
    this.#empty.hidden = letters.length > 0;
    this.#redrive.hidden = letters.length === 0;
    this.#all.hidden = !letters.some((letter) => !letter.sent);
    this.#results.hidden = false;
    CONDITIONS.forEach((name, index) => {
      const values = new Set(letters.map((letter) => letter[name]).filter(Boolean));
      const list = this.#known[index];
      if (list) put(list, [...values].map((value) => h('option', { value })));
    });
    this.#chosen();
  }

  /** @returns {HTMLInputElement[]} */
  get #boxes() {
    return [...this.#list.querySelectorAll('input')].filter((box) => !box.disabled);
  }

  /** Choose all that can be chosen, or none. @param {boolean} chosen */
  #choose(chosen) {
    for (const box of this.#boxes) box.checked = chosen;
    this.#chosen();
  }

  #chosen() {
    const places = this.#boxes.filter((box) => box.checked).map((box) => box.value.split('/').map(Number));
    this.#redrive.choose(places.map(([partition = 0, offset = 0]) => ({ partition, offset })));
  }
}

/** @param {{partition: number, offset: number}} letter */
function placeOf({ partition, offset }) {
  return `${partition}/${offset}`;
}

/** @param {LetterSummary} letter */
function make(letter) {
  const place = placeOf(letter);
  const box = h('input', { type: 'checkbox', value: place, 'aria-label': fill(texts.letters.choose, { event: short(letter.event_id || place, 60) }).join('') });
  const whole = h('div');
  const look = h('details', { ontoggle: () => look.open && !whole.firstChild && void read(place, whole) }, h('summary', {}, texts.letters.look), whole);
  const about = [letter.user_id, letter.event_id, letter.host, letter.topic && `${letter.topic} → ${letter.worker}`].filter(Boolean);
  return h(
    'li',
    {},
    box,
    h(
      'div',
      {},
      h('p', { class: 'head' }, h('strong', {}, foreign(letter.reason || texts.now.noReason, 64)), letter.field && h('code', {}, foreign(letter.field, 60)), h('span', { class: 'fate small' }), h('time', { class: 'small muted', datetime: letter.at, title: moment(letter.at) })),
      h('p', {}, foreign(letter.error, 400)),
      h('p', { class: 'small muted about' }, about.map((one) => h('span', {}, foreign(one, 80)))),
      look,
    ),
  );
}

/** @param {HTMLElement} row @param {LetterSummary} letter */
function update(row, { at, attempts, sent }) {
  const [box, fate, time] = ['input', '.fate', 'time'].map((one) => row.querySelector(one));
  if (!(box instanceof HTMLInputElement) || !fate || !time) return;
  box.disabled = sent;
  if (sent) box.checked = false;
  put(time, ago(at));
  const times = attempts === 1 ? texts.letters.attempt : texts.letters.attempts;
  put(fate, [attempts > 0 && fill(times, { count: count(attempts) }).join(''), sent && texts.letters.sent].filter(Boolean).join(', '));
}

/** Show a letter with its bytes. @param {string} place @param {HTMLElement} box */
async function read(place, box) {
  put(box, h('p', { class: 'small muted' }, texts.shopper.reading));
  try {
    /** @type {LetterDocument} */
    const letter = await ask(`/v1/dead-letters/${place}`);
    const { original, first_offset, truncated } = letter;
    put(
      box,
      h('p', { class: 'small muted' }, fill(texts.letters.place, { place }), original && [' ', ...fill(texts.letters.original, { place: foreign(`${original.topic}/${original.partition}/${original.offset}`, 300) })].map((one) => one ?? '')),
      truncated !== null && h('p', {}, fill(texts.letters.truncated, { count: count(truncated) })),
      first_offset !== null && h('p', {}, fill(texts.letters.stands, { first: String(first_offset) })),
      bytes(texts.letters.key, letter.key, letter.key_encoding),
      bytes(texts.letters.value, letter.value, letter.value_encoding),
      letter.headers.map(({ name, value, encoding }) => bytes(fill(texts.letters.header, { name: short(name, 80) }).join(''), value, encoding, 1024)),
    );
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    put(box); // so that it is read when it is opened again
    box.closest('details')?.removeAttribute('open');
  }
}

customElements.define('letters-screen', Screen);
