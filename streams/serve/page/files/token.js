/**
 * The token of whoever looks: asked for once, kept until the tab is closed, never in an address.
 */

import { fill, h } from './dom.js';
import { texts } from './texts.js';

const KEY = 'tastestream-token';

/** Tells when a token was set or forgotten: `change`. */
export const tokens = new EventTarget();

/** @type {Promise<boolean> | null} */
let asking = null;
let declined = false;

/** Whether somebody was asked for a token and gave none. */
export function isDeclined() {
  return declined;
}

/** @returns {string | null} */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** Forget the token. */
export function forget() {
  sessionStorage.removeItem(KEY);
  tokens.dispatchEvent(new Event('change'));
}

/**
 * Ask for a token. Requests that ask together are one question, and whoever gave none is not asked again.
 * @param {string} detail why the worker refused the last one; '' if there was none
 * @param {{again?: boolean}} [options] `again`: ask all the same
 * @returns {Promise<boolean>} whether there is a new one
 */
export async function askForToken(detail, { again = false } = {}) {
  if (declined && !again) return false;
  asking ??= ask(detail).finally(() => (asking = null));
  declined = !(await asking);
  tokens.dispatchEvent(new Event('change'));
  return !declined;
}

/**
 * @param {string} detail
 * @returns {Promise<boolean>}
 */
function ask(detail) {
  const field = h('input', { type: 'password', name: 'token', autocomplete: 'off', spellcheck: 'false', required: true });
  const form = h(
    'form',
    { method: 'dialog' },
    h('h2', { id: 'token-title' }, texts.token.title),
    h('p', {}, fill(texts.token.why, { command: h('code', {}, 'tastestream token create') })),
    detail && h('p', { class: 'problem', role: 'alert' }, fill(texts.token.refused, { detail })),
    h('label', {}, texts.token.label, field),
    h('p', { class: 'small muted' }, texts.token.kept),
    h('div', { class: 'row' }, h('button', { type: 'button', value: '', onclick: () => dialog.close() }, texts.token.cancel), h('button', { class: 'first', value: 'send' }, texts.token.send)),
  );
  const dialog = h('dialog', { 'aria-labelledby': 'token-title' }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const given = dialog.returnValue === 'send' ? field.value.trim() : '';
      if (given) sessionStorage.setItem(KEY, given);
      dialog.remove();
      resolve(given !== '');
    });
  });
}
