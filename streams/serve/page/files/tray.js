/**
 * The pictures that somebody tries, and what the API says of them. Draws nothing, keeps nothing: all is gone with the page.
 */

import { ApiError, ask } from './api.js';
import { prepared } from './upload.js';

/**
 * @typedef {'view' | 'cart' | 'purchase'} Type
 *
 * @typedef {object} Tried
 * @property {string} key
 * @property {File} file
 * @property {string} url of the file, for as long as the picture is there
 * @property {Type} type
 * @property {Promise<Blob>} blob what is sent
 * @property {import('./types.js').PictureFate | null} fate what became of it
 */

export const MOST = 64; // pictures, as the API takes at most
const ITEMS = 12;
const CATEGORIES = 24;
const PAUSE = 120; // milliseconds without a change after which the API is asked: a drop of many files is one change

/** The pictures. Tells `change` whenever something is another. */
export class Tray extends EventTarget {
  /** @type {Tried[]} in the order in which they came */
  pictures = [];
  /** @type {import('./types.js').TasteAnswer | null} of the pictures as they are, or were until a moment ago */
  answer = null;
  /** @type {ApiError | null} */
  error = null;
  left = 0; // pictures of the last drop for which there was no room
  busy = false;
  #numbers = 0;
  #timer = 0;
  #asked = new AbortController();

  /**
   * Add pictures, as many as there is room for.
   * @param {File[]} files
   */
  add(files) {
    const room = MOST - this.pictures.length;
    const taken = files.slice(0, Math.max(0, room));
    this.left = files.length - taken.length;
    for (const file of taken) {
      this.pictures.push({ key: String(++this.#numbers), file, url: URL.createObjectURL(file), type: 'view', blob: prepared(file), fate: null });
    }
    this.#changed();
  }

  /** @param {string} key @param {Type} type */
  setType(key, type) {
    const picture = this.pictures.find((one) => one.key === key);
    if (!picture || picture.type === type) return;
    picture.type = type;
    this.#changed();
  }

  /** @param {string} key */
  remove(key) {
    const picture = this.pictures.find((one) => one.key === key);
    if (!picture) return;
    URL.revokeObjectURL(picture.url);
    this.pictures = this.pictures.filter((one) => one !== picture);
    this.left = 0;
    this.#changed();
  }

  /** Remove all. */
  clear() {
    for (const picture of this.pictures) URL.revokeObjectURL(picture.url);
    this.pictures = [];
    this.left = 0;
    this.#changed();
  }

  /** The picture that an answer names. @param {string} item_id @returns {Tried | null} */
  named(item_id) {
    return this.pictures.find((one) => one.fate?.item_id === item_id) ?? null;
  }

  /** Ask once more: the connection is back. */
  retry() {
    if (this.error) this.#changed();
  }

  #changed() {
    clearTimeout(this.#timer);
    this.#asked.abort();
    this.error = null;
    this.busy = this.pictures.length > 0;
    if (this.busy) this.#timer = setTimeout(() => void this.#ask(), PAUSE);
    else this.answer = null;
    this.dispatchEvent(new Event('change'));
  }

  async #ask() {
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    const asked = [...this.pictures];
    const form = new FormData();
    for (const { type, blob, file } of asked) form.append(type, await blob, file.name || 'picture');
    if (signal.aborted) return;
    try {
      /** @type {import('./types.js').TasteAnswer} */
      const answer = await ask(`/v1/taste?items=${ITEMS}&k=${CATEGORIES}`, { method: 'POST', body: form, signal });
      if (signal.aborted) return;
      this.answer = answer;
      asked.forEach((picture, index) => (picture.fate = answer.pictures[index] ?? null));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.error = error;
      this.answer = null;
    }
    this.busy = false;
    this.dispatchEvent(new Event('change'));
  }
}
