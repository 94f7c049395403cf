/**
 * What is known of a shopper, read again whenever it changes, and what it was before the last event. Draws nothing.
 */

import { ApiError, ask, segment } from './api.js';
import { learnClock } from './format.js';

/**
 * @typedef {import('./types.js').UserAnswer} UserAnswer
 * @typedef {import('./types.js').RecommendationAnswer} RecommendationAnswer
 * @typedef {import('./types.js').WithoutAnswer} WithoutAnswer
 *
 * @typedef {object} Known
 * @property {UserAnswer | null} user null if nothing is held on this shopper
 * @property {RecommendationAnswer} taste
 * @property {Map<string, number> | null} before scores before the last event, by category; null if that is not known
 */

const ITEMS = 12;
const CATEGORIES = 100; // as many as the API gives: what ranks low now may have ranked high before

/** One shopper. Tells `change` when there is something new, and `error`. */
export class Shopper extends EventTarget {
  /** @type {Known | null} */
  known = null;
  /** @type {ApiError | null} why it could not be read */
  error = null;
  filter = ''; // of the items: parameters that begin with `&`
  #reading = false;
  #again = false;
  #closed = new AbortController();

  /** @param {string} id */
  constructor(id) {
    super();
    this.id = id;
  }

  /** Read no more. */
  close() {
    this.#closed.abort();
  }

  /** Read now, and once more afterwards if that is asked for meanwhile. */
  async read() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    while (this.#again && !this.#closed.signal.aborted) {
      this.#again = false;
      try {
        this.known = await this.#read();
        this.error = null;
      } catch (error) {
        if (this.#closed.signal.aborted) break;
        if (!(error instanceof ApiError)) throw error;
        this.error = error;
      }
      this.dispatchEvent(new Event('change'));
    }
    this.#reading = false;
  }

  /**
   * What the categories would be without an item.
   * @param {string} item
   * @param {AbortSignal} [signal]
   * @returns {Promise<WithoutAnswer>}
   */
  without(item, signal) {
    return ask(`${this.#path}/without?item=${encodeURIComponent(item)}&k=${CATEGORIES}`, { signal });
  }

  get #path() {
    return `/v1/users/${segment(this.id)}`;
  }

  /** @returns {Promise<Known>} */
  async #read() {
    const { signal } = this.#closed;
    /** @type {[UserAnswer | null, RecommendationAnswer]} */
    const [user, taste] = await Promise.all([
      ask(`${this.#path}?k=${CATEGORIES}`, { signal }).catch(unknown),
      ask(`${this.#path}/recommendations?items=${ITEMS}&k=${CATEGORIES}${this.filter}`, { signal }),
    ]);
    learnClock(taste.produced_at);
    return { user, taste, before: await this.#before(user, taste, signal) };
  }

  /**
   * @param {UserAnswer | null} user
   * @param {RecommendationAnswer} taste
   * @param {AbortSignal} signal
   */
  async #before(user, taste, signal) {
    const last = this.known;
    if (last && last.taste.event_id === taste.event_id) return last.before;
    if (last) return new Map(last.taste.categories.map((one) => [one.category, one.score]));
    const newest = user && onlyEventOf(user);
    if (!newest) return null;
    /** @type {WithoutAnswer} */
    const answer = await ask(`${this.#path}/without?item=${encodeURIComponent(newest)}&k=${CATEGORIES}`, { signal });
    return new Map(answer.categories.map((one) => [one.category, one.without]));
  }
}

/** @param {unknown} error @returns {null} */
function unknown(error) {
  if (error instanceof ApiError && error.reason === 'unknown_user') return null;
  throw error;
}

/**
 * The newest item, if the newest event is all that is known of it: without it, the bag is that before the event.
 * @param {UserAnswer} user
 * @returns {string | null}
 */
export function onlyEventOf({ items }) {
  const newest = items[0];
  return newest && newest.weight !== null && Object.keys(newest.types).length === 1 ? newest.item_id : null;
}
