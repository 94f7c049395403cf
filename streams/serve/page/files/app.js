/**
 * Starts the page: draws the bar, and shows the screen that the address names. Read screens.js next.
 */

import { connection } from './connection.js';
import { fill, h, put } from './dom.js';
import { watchScopes } from './scopes.js';
import { addressOf, screens } from './screens.js';
import { texts } from './texts.js';
import { askForToken, forget, isDeclined, token, tokens } from './token.js';

const bar = find('header.bar');
const main = find('main');
const notices = find('.notices');
const state = h('span', { class: 'link' }, texts.frame.connected);
const access = h('button', { class: 'small', onclick: changeToken });

/** @type {{name: string, element: import('./screens.js').ScreenElement} | null} */
let shown = null;

/** @param {string} selector @returns {HTMLElement} */
function find(selector) {
  const found = document.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return found;
}

/** @param {import('./screens.js').Screen} screen */
function linkTo(screen) {
  return h('li', {}, h('a', { href: addressOf(screen.name), 'data-screen': screen.name }, screen.title));
}

function drawBar() {
  bar.append(h('nav', { 'aria-label': texts.frame.screens }, h('ul', {}, screens.map(linkTo))), h('div', { class: 'end' }, state, access));
  const skip = find('.skip');
  put(skip, texts.frame.skip);
  skip.addEventListener('click', () => main.focus());
  drawToken();
}

/** What the address names: a screen, and a place on it. */
function place() {
  const parts = location.hash.replace(/^#\/?/, '').split('/').map(decoded);
  const [name = '', ...rest] = parts;
  return { name: name || screens[0]?.name || '', rest };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // somebody typed a percent sign
  }
}

/** Show the screen of the address. */
async function show() {
  const { name, rest } = place();
  const screen = screens.find((one) => one.name === name);
  for (const link of bar.querySelectorAll('nav a')) {
    if (link.getAttribute('data-screen') === name) {
      link.setAttribute('aria-current', 'page');
      link.scrollIntoView({ inline: 'center', block: 'nearest' });
    } else link.removeAttribute('aria-current');
  }
  if (!screen) {
    shown = null;
    put(main, h('h1', {}, texts.frame.unknown));
    return;
  }
  try {
    if (shown?.name !== name) {
      const { Screen } = await screen.load();
      if (place().name !== name) return; // another one was opened meanwhile
      const first = shown === null;
      shown = { name, element: new Screen() };
      put(main, shown.element);
      if (!first) main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    document.title = `${shown.element.show(rest)} · ${texts.frame.name}`;
  } catch (error) {
    shown = null;
    put(main, h('p', { class: 'empty' }, fill(texts.frame.failed, { detail: String(error) })));
  }
}

function drawConnection() {
  const { since } = connection;
  state.classList.toggle('lost', since !== null);
  put(state, since ? texts.frame.lost : texts.frame.connected);
  const time = since?.toLocaleTimeString('en-GB');
  put(notices, since && h('p', {}, fill(texts.frame.lostSince, { time })));
}

function drawToken() {
  access.hidden = token() === null && !isDeclined();
  put(access, token() === null ? texts.frame.enter : texts.frame.forget);
}

/** Ask again, or forget the token: either way, everything is read anew. */
async function changeToken() {
  if (token() !== null) forget();
  else if (!(await askForToken('', { again: true }))) return;
  location.reload();
}

connection.addEventListener('lost', drawConnection);
connection.addEventListener('back', drawConnection);
tokens.addEventListener('change', drawToken);
addEventListener('hashchange', () => void show());
drawBar();
watchScopes();
void show();
