/**
 * Sends the events of dead letters again: first says what would be sent, and then sends just that. Tells `sent`.
 */

import { ApiError, ask } from '../api.js';
import { fill, h, put } from '../dom.js';
import { foreign } from '../foreign.js';
import { count } from '../format.js';
import { texts } from '../texts.js';

/**
 * @typedef {{partition: number, offset: number}} Place
 * @typedef {import('../types.js').RedriveAnswer} RedriveAnswer
 */

export class Redrive extends HTMLElement {
  #ask = h('button', { type: 'button', disabled: true, onclick: () => void this.#try(true) }, texts.redrive.ask);
  #send = h('button', { type: 'button', class: 'first', hidden: true, onclick: () => void this.#try(false) });
  #told = h('p', { role: 'status', class: 'told' });
  /** @type {Place[]} */
  #places = [];
  #busy = false;

  connectedCallback() {
    if (!this.firstChild) this.append(this.#ask, this.#send, this.#told);
    this.#start([]);
  }

  /**
   * Choose letters. What was said of others is of no interest any more.
   * @param {Place[]} places
   */
  choose(places) {
    if (JSON.stringify(places) !== JSON.stringify(this.#places)) this.#start(places);
  }

  /** @param {Place[]} places */
  #start(places) {
    this.#places = places;
    this.#send.hidden = true;
    this.#ask.disabled = places.length === 0 || this.#busy;
    put(this.#told, places.length === 0 ? texts.redrive.none : fill(places.length === 1 ? texts.redrive.one : texts.redrive.many, { count: count(places.length) }));
  }

  /** @param {boolean} dry_run */
  async #try(dry_run) {
    const places = this.#places;
    this.#busy = this.#ask.disabled = this.#send.disabled = true;
    put(this.#told, dry_run ? texts.redrive.looking : texts.redrive.sending);
    try {
      /** @type {RedriveAnswer} */
      const answer = await ask('/v1/dead-letters/redrive', { method: 'POST', body: JSON.stringify({ letters: places, limit: places.length, dry_run }) });
      this.#busy = false;
      if (places !== this.#places) this.#start(this.#places);
      else if (dry_run) this.#tell(answer);
      else this.#finish(answer);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#busy = false;
      this.#start(this.#places);
      put(this.#told, fill(texts.problem.refused, { detail: foreign(error.message, 300) }));
    }
  }

  /** @param {RedriveAnswer} answer of the dry run */
  #tell({ sent, selected, doubtful, skipped }) {
    this.#ask.disabled = false;
    this.#send.disabled = false;
    this.#send.hidden = sent === 0;
    put(this.#send, fill(sent === 1 ? texts.redrive.sendOne : texts.redrive.send, { count: count(sent) }));
    put(this.#told, [fill(texts.redrive.would, { sent: count(sent), selected: count(selected) }), reasons(skipped), doubtful > 0 && fill(texts.redrive.doubtful, { count: count(doubtful) })].flat());
  }

  /** @param {RedriveAnswer} answer */
  #finish({ sent, skipped }) {
    this.dispatchEvent(new CustomEvent('sent')); // which chooses none
    put(this.#told, fill(sent === 1 ? texts.redrive.doneOne : texts.redrive.done, { count: count(sent) }), reasons(skipped));
  }
}

/** Why events are not sent. @param {Record<string, number>} skipped number by cause */
function reasons(skipped) {
  return Object.entries(skipped).flatMap(([cause, number]) => fill(texts.redrive.skipped, { count: count(number), why: texts.skipped[/** @type {keyof typeof texts.skipped} */ (cause)] ?? cause }));
}

customElements.define('taste-redrive', Redrive);
