/**
 * A picture of somebody else's web site: it loads when it is near the screen, tells nobody where it is shown, and one that cannot be
 * had is a tile with the first letters of its name.
 */

import { h, put } from '../dom.js';
import { visible } from '../foreign.js';

const LOOPBACK = /^(localhost|127\.0\.0\.1)$/;

/** Whether the page may load a picture: the worker's Content-Security-Policy says the same. @param {string} url */
function isAllowed(url) {
  if (url.startsWith('blob:') || url.startsWith('data:image/')) return true;
  if (!URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || (protocol === 'http:' && LOOPBACK.test(hostname) && LOOPBACK.test(location.hostname));
}

export class Picture extends HTMLElement {
  #url = '';

  /**
   * Show a picture. The same one again is not loaded again.
   * @param {string} url '' if there is none
   * @param {string} name whose letters stand for it
   * @param {{alt?: string}} [options] `alt`: '' if the text beside it says what it is
   */
  show(url, name, { alt = '' } = {}) {
    if (url === this.#url && this.firstChild) return;
    this.#url = url;
    if (!isAllowed(url)) {
      this.#stand(name, alt);
      return;
    }
    const image = h('img', { alt, loading: 'lazy', decoding: 'async', referrerpolicy: 'no-referrer', draggable: 'false', onerror: () => this.#stand(name, alt) });
    image.src = url;
    this.classList.remove('absent');
    put(this, image);
  }

  /** @param {string} name @param {string} alt */
  #stand(name, alt) {
    this.classList.add('absent');
    const letters = [...visible(name)].filter((one) => /[\p{L}\p{N}]/u.test(one)).slice(0, 2).join('');
    put(this, h('span', { role: alt ? 'img' : null, 'aria-label': alt || null, 'aria-hidden': alt ? null : 'true' }, letters || '?'));
  }
}

customElements.define('taste-picture', Picture);
