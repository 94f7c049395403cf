/**
 * Whether the worker answers. While it does not, asks again until it does.
 */

const FIRST = 500; // milliseconds until the first attempt; each one waits twice as long as the one before
const MOST = 8000;

/** Tells `lost` and `back`. Whoever shows data reads it again when the connection is back. */
class Connection extends EventTarget {
  /** @type {Date | null} since when there is none */
  since = null;

  /** The worker did not answer. */
  lose() {
    if (this.since) return;
    this.since = new Date();
    this.dispatchEvent(new Event('lost'));
    void this.#tryAgain();
  }

  /** The worker answered. */
  back() {
    if (!this.since) return;
    this.since = null;
    this.dispatchEvent(new Event('back'));
  }

  async #tryAgain() {
    for (let wait = FIRST; this.since; wait = Math.min(2 * wait, MOST)) {
      await new Promise((resolve) => {
        setTimeout(resolve, wait * (0.75 + Math.random() / 2)); // many pages do not ask at the same moment
        addEventListener('online', resolve, { once: true });
      });
      const answered = await fetch('/live', { cache: 'no-store' }).then((response) => response.ok, () => false);
      if (answered) this.back();
    }
  }
}

export const connection = new Connection();
