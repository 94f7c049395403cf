/**
 * Shows what strangers wrote: ids, titles, categories, file names. One line, one direction, and only as long as its place is.
 */

import { h } from './dom.js';

// Control characters, line separators and the controls that reorder text, as in streams/text.py, and halves of surrogate pairs
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/**
 * The text with every character escaped that cannot be seen.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(UNSAFE, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * The text, or its beginning.
 * @param {string} text
 * @param {number} [most] characters
 */
export function short(text, most = 60) {
  const points = [...visible(text)];
  return points.length > most ? `${points.slice(0, most - 1).join('')}…` : points.join('');
}

/**
 * An element with the text, which does not turn the text around it. If it is cut, its title has all of it.
 * @param {string} text
 * @param {number} [most] characters
 */
export function foreign(text, most = 60) {
  const shown = short(text, most);
  const all = visible(text);
  return h('bdi', { title: shown === all ? null : short(text, 1000) }, shown);
}
