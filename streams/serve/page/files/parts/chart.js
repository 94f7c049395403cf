/**
 * A chart of lines over time, with marks. One is drawn anew for each answer; nothing moves.
 */

import { h, put, svg } from '../dom.js';
import { clock } from '../format.js';

const WIDTH = 600;
const HEIGHT = 120;

/**
 * @typedef {object} Line
 * @property {string} name for people
 * @property {(number | null)[]} values null where nobody knows
 *
 * @typedef {object} ChartData
 * @property {number[]} at milliseconds since 1970, in order
 * @property {number} step milliseconds between two points; a larger gap ends a line
 * @property {Line[]} lines at most two
 * @property {{at: number, text: string}[]} marks
 */

/** Told with `show`. */
export class Chart extends HTMLElement {
  #title = h('figcaption');
  #plot = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
  #most = h('span', { class: 'small muted most' });
  #from = h('span');
  #to = h('span');

  connectedCallback() {
    if (this.firstChild) return;
    this.append(
      h('figure', {}, this.#title, h('div', { class: 'plot' }, this.#most, this.#plot), h('div', { class: 'span small muted', 'aria-hidden': 'true' }, this.#from, this.#to)),
    );
  }

  /**
   * @param {string} title
   * @param {ChartData} data
   * @param {(value: number | null) => string} written a value as people read it
   */
  show(title, { at, step, lines, marks }, written) {
    const first = at[0] ?? 0;
    const last = at.at(-1) ?? 0;
    const most = Math.max(...lines.flatMap(({ values }) => values.map((value) => value ?? 0)), 0);
    const x = (/** @type {number} */ time) => (last > first ? ((time - first) / (last - first)) * WIDTH : WIDTH);
    const y = (/** @type {number} */ value) => HEIGHT - 1 - (most ? (value / most) * (HEIGHT - 6) : 0);
    const newest = lines.map(({ name, values }) => `${name} ${written(values.at(-1) ?? null)}`);
    put(this.#title, h('strong', {}, title), lines.map(({ name, values }, index) => h('span', { class: `legend line-${index}` }, name, ' ', h('b', {}, written(values.at(-1) ?? null)))));
    put(this.#most, written(most));
    put(this.#from, at.length ? clock(first) : '');
    put(this.#to, at.length ? clock(last) : '');
    this.#plot.setAttribute('aria-label', `${title}: ${newest.join(', ')}`);
    put(
      this.#plot,
      marks.filter((mark) => mark.at >= first && mark.at <= last).map((mark) => svg('line', { class: 'mark', x1: x(mark.at), x2: x(mark.at), y1: 0, y2: HEIGHT }, svg('title', {}, mark.text))),
      lines.map(({ values }, index) => svg('path', { class: `line-${index}`, d: path(at, values, step, x, y) })),
    );
  }
}

/**
 * The path of a line, which is broken where a value is unknown or a step is missing.
 * @param {number[]} at
 * @param {(number | null)[]} values
 * @param {number} step
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 */
function path(at, values, step, x, y) {
  let found = '';
  let before = -Infinity;
  at.forEach((time, index) => {
    const value = values[index];
    if (value == null) return;
    found += `${time - before > 1.5 * step ? 'M' : 'L'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
    before = time;
  });
  return found;
}

customElements.define('time-chart', Chart);
