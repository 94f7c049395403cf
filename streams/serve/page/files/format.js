/**
 * Numbers and times as people read them.
 */

const PERCENT = new Intl.NumberFormat('en', { style: 'percent', maximumFractionDigits: 0 });
const SHARE = new Intl.NumberFormat('en', { style: 'percent', minimumFractionDigits: 1 });
const SCORE = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const FINE = new Intl.NumberFormat('en', { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const CHANGE = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: 'exceptZero' });
const COUNT = new Intl.NumberFormat('en');
const RATE = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const PRICE = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const AGO = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'short' });
const TIME = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [['year', 31_536_000], ['month', 2_592_000], ['day', 86_400], ['hour', 3600], ['minute', 60]];

export const percent = PERCENT.format;
export const score = SCORE.format;
export const fine = FINE.format;
export const change = CHANGE.format;
export const count = COUNT.format;
export const price = PRICE.format;

/**
 * A share, rounded down: 100 % only where nothing lacks.
 * @param {number} value
 */
export function down(value) {
  return SHARE.format(Math.floor(value * 1000 + 1e-9) / 1000);
}

/**
 * A rate.
 * @param {number | null} value per second; null if nobody knows
 */
export function rate(value) {
  return value === null ? '–' : RATE.format(value);
}

/**
 * A duration.
 * @param {number | null} seconds null if nobody knows
 */
export function duration(seconds) {
  if (seconds === null) return '–';
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${RATE.format(seconds)} s`;
  return seconds < 7200 ? `${COUNT.format(Math.round(seconds / 60))} min` : `${COUNT.format(Math.round(seconds / 3600))} h`;
}

/**
 * The time of the day.
 * @param {number} time milliseconds since 1970
 */
export function clock(time) {
  return CLOCK.format(new Date(time));
}

let ahead = 0; // milliseconds that the worker's clock is ahead of this one

/**
 * Learn the worker's clock, which times are compared with: that of this machine may be off.
 * @param {string} now a time that the worker has just written
 */
export function learnClock(now) {
  ahead = Date.parse(now) - Date.now();
}

/** Now, by the worker's clock: milliseconds since 1970. */
export function now() {
  return Date.now() + ahead;
}

/**
 * How long ago a time was, by the worker's clock.
 * @param {string} time
 */
export function ago(time) {
  const seconds = Math.round((Date.parse(time) - now()) / 1000);
  const [unit, size] = UNITS.find(([, least]) => Math.abs(seconds) >= least) ?? /** @type {[Intl.RelativeTimeFormatUnit, number]} */ (['second', 1]);
  return AGO.format(Math.trunc(seconds / size), unit);
}

/**
 * A time in full.
 * @param {string} time
 */
export function moment(time) {
  return TIME.format(new Date(time));
}
