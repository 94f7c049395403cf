/**
 * The address of what is shown, to send to somebody. Copies it where the browser can, which without TLS it cannot, and shows it in any case.
 */

import { h, put } from '../dom.js';
import { texts } from '../texts.js';
import { icon } from './icons.js';

export class CopyLink extends HTMLElement {
  #field = h('input', { type: 'text', readonly: true, 'aria-label': texts.link.label, spellcheck: 'false' });
  #told = h('span', { class: 'small muted', role: 'status' });
  #box = h('span', { class: 'link-box', hidden: true }, this.#field, this.#told);

  connectedCallback() {
    if (!this.firstChild) this.append(h('button', { type: 'button', onclick: () => void this.#copy() }, icon('link'), texts.link.button), this.#box);
  }

  #address = '';

  /** Show the button for another address. @param {string} hash what follows the address of the page */
  offer(hash) {
    this.#address = new URL(hash, location.href).href;
    this.#box.hidden = true;
  }

  async #copy() {
    this.#field.value = this.#address;
    this.#box.hidden = false;
    this.#field.select();
    const copied = await copy(this.#address);
    put(this.#told, copied ? texts.link.copied : texts.link.byHand);
  }
}

/**
 * Copy a text, which is selected already.
 * @param {string} text
 * @returns {Promise<boolean>} whether it was copied
 */
async function copy(text) {
  if (!isSecureContext) return document.execCommand('copy'); // there is no navigator.clipboard
  return navigator.clipboard.writeText(text).then(() => true, () => document.execCommand('copy'));
}

customElements.define('copy-link', CopyLink);
