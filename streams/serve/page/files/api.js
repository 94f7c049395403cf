/**
 * Asks the HTTP API, and asks for a token when the API does.
 */

import { connection } from './connection.js';
import { texts } from './texts.js';
import { askForToken, token } from './token.js';

/** What the API refused, as its problem document says. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 if the worker does not answer
   * @param {string} reason stable, such as `unknown_user`
   * @param {string} detail for people
   */
  constructor(status, reason, detail) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

/**
 * Ask.
 * @param {string} path with ids encoded by `segment`
 * @param {{method?: string, body?: FormData | string, signal?: AbortSignal | undefined, accept?: string}} [options] a text is JSON
 * @returns {Promise<Response>} a good one
 * @throws {ApiError} the API refuses, or does not answer
 * @throws {DOMException} the signal aborted
 */
export async function request(path, options = {}) {
  const { method = 'GET', body, signal, accept } = options;
  for (;;) {
    const sent = token();
    /** @type {Record<string, string>} */
    const headers = { Accept: accept ?? 'application/json' };
    if (sent) headers['Authorization'] = `Bearer ${sent}`;
    if (typeof body === 'string') headers['Content-Type'] = 'application/json';
    const response = await fetched(path, { method, headers, body: body ?? null, signal: signal ?? null, cache: 'no-store' });
    if (response.ok) {
      connection.back();
      return response;
    }
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    if (token() !== sent) continue; // another request has asked meanwhile
    if (!(await askForToken(sent ? problem.message : ''))) throw problem;
  }
}

/**
 * Ask for JSON.
 * @param {string} path
 * @param {Parameters<typeof request>[1]} [options]
 * @returns {Promise<any>} the answer; callers name its type
 */
export async function ask(path, options) {
  return (await request(path, options)).json();
}

/**
 * An id as a part of a path.
 * @param {string} id
 */
export function segment(id) {
  return encodeURIComponent(id).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'));
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function fetched(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    connection.lose();
    throw new ApiError(0, 'lost', texts.problem.lost);
  }
}

/**
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
async function problemOf(response) {
  /** @type {{reason?: string, detail?: string}} */
  const found = await response.json().catch(() => ({}));
  return new ApiError(response.status, found.reason ?? 'unknown', found.detail ?? `HTTP ${response.status}`);
}
