/**
 * Makes elements, fills texts, and keeps lists of elements in step with lists of values. Text only ever becomes text nodes.
 */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | EventListener>} Attributes */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Make an element. A function is a listener of the event that its name says after `on`; true is an empty attribute; false, null and
 * undefined are none.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/**
 * Make a custom element of a class that is registered.
 * @template {HTMLElement} T
 * @param {new () => T} kind
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {T}
 */
export function custom(kind, attributes = {}, ...children) {
  return dress(new kind(), attributes, children);
}

/**
 * Make an element of SVG.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  return dress(/** @type {SVGElementTagNameMap[T]} */ (document.createElementNS(SVG, tag)), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {(Child | Child[])[]} children
 * @returns {E}
 */
function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  return children.flat().filter((child) => child !== false && child != null && child !== '').map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Put nodes in the place of a text's names in braces.
 * @param {string} text
 * @param {Record<string, Child>} values by name
 * @returns {Child[]}
 */
export function fill(text, values) {
  return text.split(/\{(\w+)\}/).map((part, index) => (index % 2 ? values[part] : part));
}

/**
 * Replace what is in an element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** @type {WeakMap<Element, Map<string, Element>>} */
const kept = new WeakMap();

/**
 * Keep the children of an element in step with values: an element stays as long as there is a value with its key.
 * @template V
 * @template {Element} E
 * @param {Element} parent has no other children
 * @param {readonly V[]} values in the order to show
 * @param {(value: V) => string} key unique
 * @param {(value: V) => E} make
 * @param {(element: E, value: V) => void} update
 */
export function keep(parent, values, key, make, update) {
  const before = /** @type {Map<string, E>} */ (kept.get(parent) ?? new Map());
  /** @type {Map<string, E>} */
  const after = new Map();
  for (const value of values) {
    const name = key(value);
    if (after.has(name)) continue;
    const element = before.get(name) ?? make(value);
    update(element, value);
    after.set(name, element);
  }
  for (const [name, element] of before) if (!after.has(name)) element.remove();
  let next = parent.firstElementChild;
  for (const element of after.values()) {
    if (element === next) next = next.nextElementSibling;
    else place(parent, element, next);
  }
  kept.set(parent, after);
}

/**
 * Put an element before another one. Where the browser can, it keeps the focus.
 * @param {Element} parent
 * @param {Element} element
 * @param {Element | null} next
 */
function place(parent, element, next) {
  if (element.parentNode === parent && 'moveBefore' in parent) {
    /** @type {{moveBefore(node: Node, next: Node | null): void}} */ (/** @type {unknown} */ (parent)).moveBefore(element, next);
  } else {
    parent.insertBefore(element, next);
  }
}
