// Elements are made of text and attributes only: nothing of a model is ever read as markup.

const byId = (id) => document.getElementById(id);

/** An element with attributes; children are elements or texts, and null is left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A symbol as in the legend, which the template drew. */
function symbol(state) {
  const drawn = document.querySelector(`.legend svg[data-state="${state}"]`);
  return drawn ? drawn.cloneNode(true) : null;
}

const styles = () => getComputedStyle(document.documentElement);
const colour = (name) => styles().getPropertyValue(`--${name}`).trim();
