/**
 * The screen for whoever is on call: whether all is well, what comes in and out, how late it is, and what happened in the last hour.
 */

import { ask } from '../api.js';
import { custom, fill, h, keep, put } from '../dom.js';
import { foreign } from '../foreign.js';
import { ago, clock, count, duration, learnClock, moment, rate } from '../format.js';
import { Chart } from '../parts/chart.js';
import { addressOf } from '../screens.js';
import { BaseScreen } from '../screen.js';
import { follow } from '../stream.js';
import { texts } from '../texts.js';

/** @typedef {import('../types.js').Overview} Overview */
/** @typedef {import('../types.js').Now} Now */
/** @typedef {import('../types.js').GroupLag} GroupLag */
/** @typedef {import('../types.js').OpenCircuit} OpenCircuit */
/** @typedef {import('../types.js').PartitionLag} PartitionLag */

const STEP = 10; // seconds of a point in the charts
const LISTED = 12; // marks in the list
const UNNAMED = ['', 'other', 'unread']; // what the API calls reasons that it does not name

export class Screen extends BaseScreen {
  #sentence = h('h1', { 'aria-live': 'polite' });
  #since = h('p', { class: 'small' });
  #verdict = h('section', { class: 'panel verdict' }, this.#sentence, this.#since);
  #events = custom(Chart);
  #latency = custom(Chart);
  #lag = custom(Chart);
  #groups = h('div', { class: 'groups' });
  #letters = h('ul', { class: 'reasons' });
  #marks = h('ol', { class: 'marks' });
  #hosts = h('ul', { class: 'hosts' });
  #noHosts = h('p', { class: 'empty' }, texts.now.noHosts);
  #noLetters = h('p', { class: 'empty' }, texts.now.noLetters);
  #noMarks = h('p', { class: 'empty' }, texts.now.noMarks);
  #drawn = 0; // the step that the charts end with

  build() {
    this.append(
      this.#verdict,
      this.problem,
      h('div', { class: 'charts' }, [this.#events, this.#latency, this.#lag].map((chart) => h('section', { class: 'panel' }, chart))),
      this.#groups,
      h(
        'div',
        { class: 'lists' },
        h('section', { class: 'panel' }, h('header', {}, h('h2', {}, texts.now.hosts)), this.#hosts, this.#noHosts),
        h('section', { class: 'panel' }, h('header', {}, h('h2', {}, texts.now.letters)), this.#letters, this.#noLetters),
        h('section', { class: 'panel' }, h('header', {}, h('h2', {}, texts.now.marks)), this.#marks, this.#noMarks),
      ),
    );
    const listener = {
      message: (/** @type {string} */ type, /** @type {Now} */ data) => type === 'now' && this.#take(data),
      opened: () => void this.#load(),
      refused: (/** @type {import('../api.js').ApiError} */ error) => this.refuse(error),
    };
    void follow('/v1/overview/live', listener, this.left);
  }

  show() {
    return texts.now.title;
  }

  async #load() {
    /** @type {Overview | null} */
    const overview = await this.tried(ask(`/v1/overview?step=${STEP}`, { signal: this.left }));
    if (!overview) return;
    this.#take(overview);
    this.#draw(overview);
  }

  /** @param {Now} now */
  #take(now) {
    this.problem.hidden = true;
    if (now.at) learnClock(now.at);
    const { well, text, since, runbook } = now.verdict;
    this.#verdict.classList.toggle('well', well);
    this.#verdict.classList.toggle('trouble', !well && since !== null);
    if (this.#sentence.textContent !== text) put(this.#sentence, foreign(text, 400));
    put(this.#since, since && fill(texts.now.since, { ago: h('time', { datetime: since, title: moment(since) }, ago(since)), page: h('code', {}, runbook) }));
    keep(this.#groups, now.groups, (group) => group.group, makeGroup, updateGroup);
    keep(this.#letters, now.dead_letters, (one) => one.reason, makeReason, (row, one) => row.lastElementChild && put(row.lastElementChild, count(one.count)));
    this.#noLetters.hidden = now.dead_letters.length > 0;
    keep(this.#hosts, now.open_circuits, (one) => one.host, makeHost, updateHost);
    this.#noHosts.hidden = now.open_circuits.length > 0;
    const marks = now.marks.slice(-LISTED).reverse();
    keep(this.#marks, marks, (mark) => `${mark.at} ${mark.text}`, ({ at, text }) => h('li', {}, h('time', { datetime: at, class: 'muted small' }, clock(Date.parse(at))), foreign(text, 300)), () => {});
    this.#noMarks.hidden = marks.length > 0;
    const step = now.second ? Math.floor(now.second.at / (STEP * 1000)) : 0;
    if (this.#drawn && step > this.#drawn) {
      this.#drawn = step;
      void this.#load();
    }
  }

  /** @param {Overview} overview */
  #draw({ history, marks, second }) {
    this.#drawn = second ? Math.floor(second.at / (STEP * 1000)) : 0;
    const shared = { at: history.at, step: history.step * 1000, marks: marks.map(({ at, text }) => ({ at: Date.parse(at), text })) };
    const line = (/** @type {string} */ name, /** @type {(number | null)[]} */ values) => ({ name, values });
    this.#events.show(texts.now.events, { ...shared, lines: [line(texts.now.in, history.events_in), line(texts.now.out, history.events_out)] }, rate);
    this.#latency.show(texts.now.latency, { ...shared, lines: [line(texts.now.p50, history.p50), line(texts.now.p99, history.p99)] }, duration);
    this.#lag.show(texts.now.lag, { ...shared, lines: [line(texts.now.oldest, history.lag_seconds)] }, duration);
  }
}

/** @param {{reason: string}} one */
function makeReason({ reason }) {
  const name = foreign(reason || texts.now.noReason, 64);
  return h('li', {}, UNNAMED.includes(reason) ? h('span', {}, name) : h('a', { href: addressOf('letters', `reason=${encodeURIComponent(reason)}&since=3600`) }, name), h('b'));
}

/** @param {OpenCircuit} one */
function makeHost({ host }) {
  return h('li', {}, foreign(host, 80), h('span', { class: 'muted small' }));
}

/**
 * @param {HTMLElement} row
 * @param {OpenCircuit} one
 */
function updateHost(row, { since, refused, waiting }) {
  const told = row.lastElementChild;
  const time = h('time', { datetime: since, title: moment(since) }, ago(since));
  if (told) put(told, fill(texts.now.host, { ago: time, refused: count(refused), waiting: count(waiting) }));
}

/** @param {GroupLag} group */
function makeGroup(group) {
  const head = [texts.now.partition, texts.now.unfinished, texts.now.oldest, texts.now.worker].map((name) => h('th', { scope: 'col' }, name));
  return h(
    'section',
    { class: 'panel' },
    h('header', {}, h('h2', {}, foreign(group.topic, 80)), h('p', { class: 'small muted state' })),
    h('div', { class: 'scrolls', tabindex: 0, role: 'group', 'aria-label': group.topic }, h('table', {}, h('thead', {}, h('tr', {}, head)), h('tbody'))),
  );
}

/**
 * @param {HTMLElement} section
 * @param {GroupLag} group
 */
function updateGroup(section, group) {
  const state = section.querySelector('.state');
  const body = section.querySelector('tbody');
  if (!state || !body) return;
  put(state, fill(group.members === 1 ? texts.now.groupOfOne : texts.now.group, { members: count(group.members), state: group.state || texts.now.unknown }));
  const free = ['Stable', 'Empty', 'Dead'].includes(group.state);
  keep(body, group.partitions, ({ partition }) => String(partition), makePartition, (row, one) => updatePartition(row, one, free));
}

/** @param {PartitionLag} one */
function makePartition({ partition }) {
  return h('tr', {}, h('th', { scope: 'row' }, partition), h('td'), h('td'), h('td'));
}

/**
 * @param {HTMLElement} row
 * @param {PartitionLag} one
 * @param {boolean} free whether a partition without an owner has none, and is not only unknown
 */
function updatePartition(row, { events, seconds, owner }, free) {
  const [, unfinished, oldest, worker] = row.children;
  if (!unfinished || !oldest || !worker) return;
  put(unfinished, events === null ? texts.now.unknown : count(events));
  put(oldest, events === 0 ? '–' : duration(seconds));
  put(worker, owner ? foreign(`${owner.client} ${owner.host}`, 80) : free ? texts.now.nobody : texts.now.unknown);
  row.classList.toggle('alone', free && owner === null && Boolean(events));
}

customElements.define('now-screen', Screen);
