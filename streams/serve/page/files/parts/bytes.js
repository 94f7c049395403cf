/**
 * Bytes of strangers as text: each character that cannot be seen is escaped, and what is no text is shown byte by byte.
 */

import { fill, h } from '../dom.js';
import { visible } from '../foreign.js';
import { count } from '../format.js';
import { texts } from '../texts.js';

const MOST = 16_384; // characters of a text
const MOST_BYTES = 2048; // that are shown byte by byte
const ROW = 16; // bytes in a row

/**
 * A box with bytes, or with a word where there are none.
 * @param {string} label what they are
 * @param {string | null} content text, or base64
 * @param {'utf-8' | 'base64' | null} encoding
 * @param {number} [most] characters, or bytes where it is no text
 */
export function bytes(label, content, encoding, most) {
  if (content === null) return h('p', { class: 'small muted' }, fill(texts.bytes.none, { what: label }));
  const { shown, left } = encoding === 'base64' ? dump(content, most ?? MOST_BYTES) : escaped(content, most ?? MOST);
  return h(
    'figure',
    { class: 'bytes' },
    h('figcaption', { class: 'small muted' }, label, encoding === 'base64' && `, ${texts.bytes.noText}`),
    h('pre', { tabindex: 0, role: 'group', 'aria-label': label, dir: 'ltr' }, shown || texts.bytes.empty),
    left > 0 && h('p', { class: 'small muted' }, fill(encoding === 'base64' ? texts.bytes.leftBytes : texts.bytes.left, { count: count(left) })),
  );
}

/**
 * A text whose lines stay lines.
 * @param {string} text
 * @param {number} most characters
 */
function escaped(text, most) {
  const points = [...text];
  return { shown: points.slice(0, most).join('').split('\n').map(visible).join('\n'), left: points.length - most };
}

/**
 * Bytes in hexadecimal, beside the characters that they are in ASCII.
 * @param {string} base64
 * @param {number} most
 */
function dump(base64, most) {
  const all = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const rows = [];
  for (let start = 0; start < Math.min(all.length, most); start += ROW) {
    const row = [...all.slice(start, Math.min(start + ROW, most))];
    const hex = row.map((one) => one.toString(16).padStart(2, '0')).join(' ').padEnd(3 * ROW);
    rows.push(`${start.toString(16).padStart(6, '0')}  ${hex} ${row.map((one) => (one >= 0x20 && one < 0x7f ? String.fromCharCode(one) : '.')).join('')}`);
  }
  return { shown: rows.join('\n'), left: all.length - most };
}
