/**
 * The few signs of the page, drawn as paths on a square of 24.
 */

import { svg } from '../dom.js';

const PATHS = {
  view: 'M2 12s3.600-6.500 10-6.500S22 12 22 12s-3.600 6.500-10 6.500S2 12 2 12zm10 3a3 3 0 1 0 0-6 3 3 0 0 0 0 6z',
  cart: 'M3 4h3l2.200 10.500h10L21 7.500H7M9.500 20a1 1 0 1 0 0-2 1 1 0 0 0 0 2zm8 0a1 1 0 1 0 0-2 1 1 0 0 0 0 2z',
  purchase: 'M5 12.500l4.500 4.500L19 7.500',
  return: 'M8 5L4 9l4 4M4 9h9a6 5 0 0 1 0 10H8',
  up: 'M12 19V5m-6 6l6-6 6 6',
  down: 'M12 5v14m-6-6l6 6 6-6',
  close: 'M6 6l12 12M18 6L6 18',
  link: 'M10 14l4-4M8.500 11L6 13.500a3.500 3.500 0 0 0 5 5L13.500 16M10.500 8L13 5.500a3.500 3.500 0 0 1 5 5L15.500 13',
  picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.500h.010',
};

/**
 * A sign, which says nothing to who cannot see it.
 * @param {keyof typeof PATHS} name
 */
export function icon(name) {
  return svg('svg', { viewBox: '0 0 24 24', class: `icon ${name}`, 'aria-hidden': 'true' }, svg('path', { d: PATHS[name] }));
}

/**
 * Whether there is a sign of this name.
 * @param {string} name
 * @returns {name is keyof typeof PATHS}
 */
export function isIcon(name) {
  return Object.hasOwn(PATHS, name);
}
