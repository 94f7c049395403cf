/**
 * Follows the server-sent events of the API. `EventSource` sends no token, so this reads them from a response that stays open.
 *
 * A page that is hidden closes its streams: a browser has six connections for all tabs. One that comes back opens them again.
 */

import { ApiError, request } from './api.js';
import { connection } from './connection.js';

const SILENCE = 40_000; // milliseconds without a byte after which a stream is dead: the worker sends something every 15 s
const BUSY = 5000; // milliseconds until a stream that was refused is tried again

/**
 * @typedef {object} Listener
 * @property {(type: string, data: any) => void} message an event, with its data as JSON
 * @property {() => void} opened the stream is open: what happened before was missed, so read it again
 * @property {(error: ApiError) => void} [refused] the API refuses the stream; it is tried again later
 */

/**
 * Follow a stream until the signal aborts.
 * @param {string} path
 * @param {Listener} listener
 * @param {AbortSignal} signal
 */
export async function follow(path, listener, signal) {
  while (!signal.aborted) {
    await shown(signal);
    const open = new AbortController();
    const close = () => open.abort();
    const hide = () => document.hidden && close();
    signal.addEventListener('abort', close);
    document.addEventListener('visibilitychange', hide);
    try {
      if (!signal.aborted) await read(path, listener, open);
    } catch (error) {
      if (error instanceof ApiError && error.status) {
        listener.refused?.(error);
        await pause(BUSY, signal);
      }
    } finally {
      signal.removeEventListener('abort', close);
      document.removeEventListener('visibilitychange', hide);
    }
    if (!signal.aborted && !document.hidden) await answering();
  }
}

/**
 * @param {string} path
 * @param {Listener} listener
 * @param {AbortController} open
 */
async function read(path, listener, open) {
  const response = await request(path, { accept: 'text/event-stream', signal: open.signal });
  if (!response.body) return;
  listener.opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let silence = setTimeout(() => open.abort(), SILENCE);
  const parse = parser(listener.message);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      clearTimeout(silence);
      silence = setTimeout(() => open.abort(), SILENCE);
      parse(value);
    }
  } catch (error) {
    if (!open.signal.aborted) connection.lose();
  } finally {
    clearTimeout(silence);
  }
  if (!open.signal.aborted) connection.lose();
}

/**
 * A parser of server-sent events, which takes text in any pieces.
 * @param {(type: string, data: any) => void} message
 * @returns {(text: string) => void}
 */
export function parser(message) {
  let rest = '';
  let type = 'message';
  /** @type {string[]} */
  let data = [];
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length) message(type, JSON.parse(data.join('\n')));
        type = 'message';
        data = [];
      } else if (line.startsWith('event:')) type = line.slice(6).trim();
      else if (line.startsWith('data:')) data.push(line.slice(5));
    }
  };
}

/**
 * Wait until the page is visible.
 * @param {AbortSignal} signal
 */
function shown(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      resolve(undefined);
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look, { once: true });
    look();
  });
}

/** Wait until the worker answers. */
function answering() {
  return new Promise((resolve) => {
    if (connection.since) connection.addEventListener('back', resolve, { once: true });
    else setTimeout(resolve, 250);
  });
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', resolve, { once: true });
  });
}
