// The search box: a list of nodes that fit, to choose from with the mouse or the arrow keys.

const SUGGESTIONS = 12;

/** Nodes with all the words in their name, operator or module; a name that begins so comes first. */
function matching(nodes, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const rank = (node) => {
    const name = node.name.toLowerCase();
    return name === words[0] ? 0 : name.startsWith(words[0]) ? 1 : name.includes(words[0]) ? 2 : 3;
  };
  const text = (node) => [node.name, node.operator, node.module].join(" ").toLowerCase();
  return nodes
    .filter((node) => words.every((word) => text(node).includes(word)))
    .sort((one, other) => rank(one) - rank(other))
    .slice(0, SUGGESTIONS);
}

function suggestion(node, index) {
  const where = [node.operator || "input of the model", node.module].filter(Boolean).join(" · ");
  return element(
    "li",
    { role: "option", id: `found-${index}`, "aria-selected": "false", "data-name": node.name },
    element("span", { class: "name" }, node.name),
    element("span", { class: "where" }, where),
  );
}

function search(nodes, choose) {
  const [input, found] = [byId("search"), byId("found")];
  let current = -1;

  function mark(index) {
    const options = [...found.querySelectorAll("[role=option]")];
    current = options.length ? (index + options.length) % options.length : -1;
    options.forEach((each, at) => each.setAttribute("aria-selected", String(at === current)));
    if (current < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", options[current].id);
    options[current].scrollIntoView({ block: "nearest" });
  }

  function open(shown) {
    found.hidden = !shown;
    input.setAttribute("aria-expanded", String(shown));
  }

  function suggest() {
    const matches = matching(nodes, input.value);
    const none = element("li", { class: "none" }, "No node has this in its name, operator or module.");
    found.replaceChildren(...(matches.length ? matches.map(suggestion) : [none]));
    open(input.value.trim() !== "");
    mark(0);
  }

  function take(option) {
    if (!option) return;
    input.value = option.dataset.name;
    input.select();
    open(false);
    choose(option.dataset.name);
  }

  const keys = {
    ArrowDown: () => (found.hidden ? suggest() : mark(current + 1)),
    ArrowUp: () => mark(current - 1),
    Enter: () => take(found.hidden ? null : found.querySelector('[aria-selected="true"]')),
    Escape: () => open(false),
  };
  input.addEventListener("input", suggest);
  input.addEventListener("blur", () => open(false));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
  // Before the box loses the focus, which closes the list.
  found.addEventListener("mousedown", (event) => {
    event.preventDefault();
    take(event.target.closest("[role=option]"));
  });
}
