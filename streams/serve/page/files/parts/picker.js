/**
 * Takes pictures: dropped, chosen, pasted, or with the camera of a phone. Tells `files`.
 */

import { h } from '../dom.js';
import { texts } from '../texts.js';
import { icon } from './icons.js';

export class Picker extends HTMLElement {
  /** @type {AbortController} */
  #listening = new AbortController();

  connectedCallback() {
    if (!this.firstChild) {
      const many = !this.hasAttribute('single');
      this.append(
        h('div', { class: 'drop' }, icon('picture'), h('p', {}, many ? texts.picker.drop : texts.picker.dropOne), h('div', { class: 'ways' }, this.#way(texts.picker.choose, { multiple: many }), this.#way(texts.picker.camera, { capture: 'environment' }, 'camera'))),
      );
    }
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    addEventListener('paste', (event) => this.#tell(event.clipboardData?.files), { signal });
    // A picture that misses the box would replace the page
    addEventListener('dragover', (event) => (event.preventDefault(), this.#over(true)), { signal });
    addEventListener('dragleave', (event) => event.relatedTarget === null && this.#over(false), { signal });
    addEventListener('drop', (event) => (event.preventDefault(), this.#over(false), this.#tell(event.dataTransfer?.files)), { signal });
  }

  disconnectedCallback() {
    this.#listening.abort();
  }

  /**
   * A button that opens a chooser of files.
   * @param {string} text
   * @param {import('../dom.js').Attributes} attributes
   * @param {string} [kind]
   */
  #way(text, attributes, kind = '') {
    const field = h('input', { type: 'file', accept: 'image/*', class: 'unseen', ...attributes, onchange: () => (this.#tell(field.files), (field.value = '')) });
    return h('label', { class: `button ${kind}` }, text, field);
  }

  /** @param {boolean} over */
  #over(over) {
    this.classList.toggle('over', over);
  }

  /** @param {FileList | null | undefined} files */
  #tell(files) {
    if (files?.length) this.dispatchEvent(new CustomEvent('files', { detail: [...files] }));
  }
}

customElements.define('picture-picker', Picker);
