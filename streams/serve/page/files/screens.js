/**
 * The screens, in the order of the bar. A screen is a custom element in a module of its own, which is loaded when somebody opens it.
 */

import { texts } from './texts.js';

/**
 * @typedef {object} Screen
 * @property {string} name in the address: `/#/name/...`
 * @property {string} title in the bar
 * @property {() => Promise<{Screen: new () => ScreenElement}>} load
 */

/**
 * @typedef {HTMLElement & {
 *   show(place: string[]): string,
 * }} ScreenElement `show` is called with what follows the name in the address, decoded, whenever the address changes, and returns the
 * title of the page.
 */

/** @type {Screen[]} */
export const screens = [
  { name: 'shopper', title: texts.shopper.title, load: () => import('./screens/shopper.js') },
  { name: 'try', title: texts.tried.title, load: () => import('./screens/try.js') },
  { name: 'catalogue', title: texts.catalogue.title, load: () => import('./screens/catalogue.js') },
  { name: 'now', title: texts.now.title, load: () => import('./screens/now.js') },
  { name: 'letters', title: texts.letters.title, load: () => import('./screens/letters.js') },
  { name: 'model', title: texts.model.title, load: () => import('./screens/model.js') },
];

/**
 * The address of a place on a screen.
 * @param {string} name
 * @param {...string} place
 */
export function addressOf(name, ...place) {
  return '#/' + [name, ...place].map(encodeURIComponent).join('/');
}
