/**
 * What the token of whoever looks permits. Without the scope `names`, what tells who a shopper is, is blurred: for those who look over
 * a shoulder or at a screenshot. The holder of the token can ask the API for it.
 */

import { ask } from './api.js';
import { connection } from './connection.js';
import { token, tokens } from './token.js';

/** @type {Promise<Set<string>> | null} */
let asked = null;

/** What the token permits. Nothing, while the worker does not say. @returns {Promise<Set<string>>} */
export function scopes() {
  asked ??= ask('/v1/status').then(
    ({ scopes }) => new Set(scopes),
    () => ((asked = null), new Set()),
  );
  return asked;
}

async function blur() {
  const { classList } = document.documentElement;
  if (token() !== null && !asked) classList.add('blurred'); // until it is known
  const granted = await scopes();
  if (granted.size) classList.toggle('blurred', !granted.has('names'));
}

/** Blur, or not, whenever it may have changed. */
export function watchScopes() {
  connection.addEventListener('back', () => void blur());
  tokens.addEventListener('change', () => {
    asked = null;
    void blur();
  });
  void blur();
}

/** An attribute for elements that tell who a shopper is. */
export const PERSONAL = 'data-personal';
