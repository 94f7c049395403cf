/**
 * The screen for the data scientist: the bundle, its figures, what it makes of the bags, and the next bundle beside it.
 */

import { ask } from '../api.js';
import { fill, h, put } from '../dom.js';
import { foreign } from '../foreign.js';
import { count, down, fine, percent, score } from '../format.js';
import { BaseScreen } from '../screen.js';
import { texts } from '../texts.js';

/** @typedef {import('../types.js').ModelAnswer} ModelAnswer */
/** @typedef {import('../types.js').BundleAnswer} BundleAnswer */
/** @typedef {import('../types.js').Rollout} Rollout */

const EVERY = 30_000; // milliseconds between two looks

export class Screen extends BaseScreen {
  #heading = h('h1', {}, texts.model.title);
  #bundles = h('div', { class: 'bundles' });
  #rollout = h('section', { class: 'panel rollout', hidden: true });
  #sample = h('section', { class: 'panel' });
  #workers = h('section', { class: 'panel' });
  #figures = h('section', { class: 'panel' });

  build() {
    this.append(this.#heading, this.problem, this.#bundles, this.#rollout, h('div', { class: 'lists' }, this.#sample, this.#workers), this.#figures);
    const timer = setInterval(() => document.hidden || this.again(), EVERY);
    this.left.addEventListener('abort', () => clearInterval(timer));
    this.again();
  }

  show() {
    return texts.model.title;
  }

  async again() {
    /** @type {ModelAnswer | null} */
    const model = await this.tried(ask('/v1/model', { signal: this.left }));
    if (model) this.#draw(model);
  }

  /** @param {ModelAnswer} model */
  #draw({ served, next, sample, rollout, workers }) {
    put(this.#bundles, bundle(texts.model.served, served), next ? bundle(texts.model.next, next) : null);
    this.#rollout.hidden = !rollout;
    if (rollout) put(this.#rollout, progress(rollout));
    put(
      this.#sample,
      h('header', {}, h('h2', {}, texts.model.sample), h('p', { class: 'small muted' }, fill(texts.model.sampled, { bags: count(sample.bags), items: count(sample.items) }))),
      facts([
        [texts.model.scored, share(sample.scored, sample.items)],
        ...Object.entries(sample.not_scored).map(([reason, number]) => /** @type {[string, string]} */ ([texts.notScored[/** @type {keyof typeof texts.notScored} */ (reason)] ?? reason, share(number, sample.items)])),
        [texts.model.cold, share(sample.cold, sample.bags)],
      ]),
    );
    put(
      this.#workers,
      h('header', {}, h('h2', {}, texts.model.workers)),
      h('ul', { class: 'marks' }, workers.map(({ group, host, bundles }) => h('li', {}, foreign(host, 40), h('span', {}, foreign(group, 60), ' ', bundles ? foreign(`${bundles.served.name} ${bundles.served.version}${bundles.next ? ` → ${bundles.next.name} ${bundles.next.version}` : ''}`, 120) : texts.now.unknown)))),
    );
    put(this.#figures, h('header', {}, h('h2', {}, texts.model.figures)), h('div', { class: 'figures' }, Object.entries(served.figures).map(([task, values]) => figure(task, values, next?.figures[task]))));
  }
}

/**
 * @param {string} role
 * @param {BundleAnswer} told
 */
function bundle(role, told) {
  const calibration = Object.values(told.calibration);
  return h(
    'section',
    { class: 'panel' },
    h('header', {}, h('h2', {}, foreign(`${told.name} ${told.version}`, 80)), h('p', { class: 'small muted' }, role)),
    facts([
      [texts.model.task, told.task],
      [texts.model.trained, told.trained],
      [texts.model.learnt, learnt(told)],
      [texts.model.categories, count(told.categories.length)],
      [texts.model.calibration, calibration.length ? `${fine(Math.min(...calibration))} – ${fine(Math.max(...calibration))}` : ''],
      [texts.model.embedder, told.embedder_version],
    ]),
  );
}

/**
 * How many of all items are prepared.
 * @param {Rollout} rollout
 */
function progress(rollout) {
  const { items, native, adapted, share: part, needed, counted, partitions } = rollout;
  const ready = native + adapted;
  const states = /** @type {(keyof typeof texts.model.states)[]} */ (Object.keys(texts.model.states));
  return [
    h('header', {}, h('h2', {}, texts.model.rollout), h('p', { class: 'small muted' }, counted ? fill(part >= needed ? texts.model.enough : texts.model.notEnough, { needed: down(needed) }) : texts.model.counting)),
    h('p', {}, fill(texts.model.prepared, { ready: count(ready), items: count(items), share: down(part) })),
    h('progress', { max: Math.max(items, 1), value: items ? ready : 1, 'aria-label': texts.model.rollout }),
    facts([...states.map((state) => /** @type {[string, string]} */ ([texts.model.states[state], share(rollout[state], items)])), [texts.model.partitions, count(partitions)]]),
  ];
}

/**
 * The events, or the collections of pictures, that a bundle has learnt from.
 * @param {BundleAnswer} told
 */
function learnt(told) {
  if (!told.data) return [...new Set(told.sources.map((one) => one.name))].join('; ');
  return fill(texts.model.learntFrom, { events: count(told.data.events), users: count(told.data.users), source: told.data.source }).join('');
}

/** @param {[string, string][]} pairs those without a value are left out */
function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, value]) => value).map(([name, value]) => h('div', {}, h('dt', { class: 'muted' }, name), h('dd', {}, foreign(value, 200)))));
}

/**
 * The figures of a task, beside those of the next bundle.
 * @param {string} task
 * @param {Record<string, number | null>} values
 * @param {Record<string, number | null> | undefined} others
 */
function figure(task, values, others) {
  const shown = (/** @type {number | null | undefined} */ value) => (value == null ? '–' : score(value));
  return h(
    'details',
    {},
    h('summary', {}, foreign(task, 80)),
    h('table', {}, h('thead', { class: 'unseen' }, h('tr', {}, h('th', { scope: 'col' }, texts.model.figure), h('th', { scope: 'col' }, texts.model.served), others && h('th', { scope: 'col' }, texts.model.next))), h('tbody', {}, Object.entries(values).map(([name, value]) => h('tr', {}, h('th', { scope: 'row' }, foreign(name, 60)), h('td', {}, shown(value)), others && h('td', {}, shown(others[name])))))),
  );
}

/**
 * @param {number} part
 * @param {number} all
 */
function share(part, all) {
  return all ? `${percent(part / all)} (${count(part)})` : '–';
}

customElements.define('model-screen', Screen);
