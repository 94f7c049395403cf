/**
 * What all screens share: they are built once, read again when the connection is back, say what was refused, and end their requests
 * when another screen is opened.
 */

import { ApiError } from './api.js';
import { connection } from './connection.js';
import { fill, h, put } from './dom.js';
import { foreign } from './foreign.js';
import { texts } from './texts.js';

export class BaseScreen extends HTMLElement {
  problem = h('p', { class: 'problem', role: 'alert', hidden: true });
  #left = new AbortController();
  #asked = new AbortController();

  connectedCallback() {
    this.build();
    connection.addEventListener('back', () => this.again(), { signal: this.left });
  }

  disconnectedCallback() {
    this.#left.abort();
    this.#asked.abort();
  }

  /** Aborts when another screen is opened. */
  get left() {
    return this.#left.signal;
  }

  /** For a request in place of the one before, which is of no interest any more. */
  next() {
    this.#asked.abort();
    this.#asked = new AbortController();
    return this.#asked.signal;
  }

  /** Make what is on the screen. */
  build() {}

  /** The connection is back: read again. */
  again() {}

  /**
   * What the API answers; null if another request took its place, or if it was refused: then the screen says why.
   * @template T
   * @param {Promise<T>} asked
   * @param {AbortSignal} [signal] of the request
   * @returns {Promise<T | null>}
   */
  async tried(asked, signal = this.left) {
    try {
      const found = await asked;
      if (signal.aborted) return null;
      this.problem.hidden = true;
      return found;
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof ApiError)) throw error;
      this.refuse(error);
      return null;
    }
  }

  /** Say what was refused. The frame says that the connection is lost. @param {ApiError} error */
  refuse(error) {
    if (!error.status) return;
    put(this.problem, this.refusal(error));
    this.problem.hidden = false;
  }

  /** @param {ApiError} error @returns {import('./dom.js').Child[]} */
  refusal(error) {
    return fill(texts.problem.refused, { detail: foreign(error.message, 300) });
  }
}
