// Puts the parts together: what is selected, which module is chosen, and the keys.

const picture = JSON.parse(byId("picture").textContent);
const cy = drawn(picture);
let selected = null;
let module = null;

const at = (name) => cy.getElementById(`n:${name}`);
const named = (nodes) => nodes.map((each) => each.data("node").name);

function clear() {
  if (selected) cy.batch(() => (selected.removeClass("chosen"), selected.connectedEdges().removeClass("near")));
  selected = null;
  byId("clear").hidden = true;
  delete document.body.dataset.selected;
  byId("details").replaceChildren(element("p", { class: "empty" }, "No node is selected."));
}

function select(name, { move = true } = {}) {
  const node = at(name);
  if (node.empty()) return;
  clear();
  selected = node;
  cy.batch(() => (node.addClass("chosen"), node.connectedEdges().addClass("near")));
  const near = { inputs: named(node.incomers("node")), users: named(node.outgoers("node")) };
  showDetails(node.data("node"), picture, near);
  byId("clear").hidden = false;
  document.body.dataset.selected = "";
  if (move) centre(cy, node);
}

function chooseModule(path) {
  module = path === module ? null : path;
  markModule(module);
  applyFilters(cy, module);
  if (module !== null) toModule(cy, module);
}

/** The next node along the graph, from the selected one: an input, a user, or a neighbour. */
function step(key) {
  if (!selected) return cy.nodes().min((node) => node.position("y")).ele;
  if (key === "ArrowUp") return selected.incomers("node").first();
  if (key === "ArrowDown") return selected.outgoers("node").first();
  const [side, y] = [key === "ArrowLeft" ? -1 : 1, selected.position("y")];
  const away = (node) => side * (node.position("x") - selected.position("x"));
  const beside = cy.nodes().filter((node) => node.position("y") === y && away(node) > 0);
  return beside.nonempty() ? beside.min(away).ele : beside;
}

function onKey(event) {
  if (event.key.startsWith("Arrow")) {
    const next = step(event.key);
    if (next.nonempty()) select(next.data("node").name);
  } else if (event.key === "+" || event.key === "=") zoomBy(cy, 1.3);
  else if (event.key === "-") zoomBy(cy, 1 / 1.3);
  else if (event.key === "Escape") clear();
  else return;
  event.preventDefault();
}

cy.on("tap", (event) => {
  byId("graph").focus({ preventScroll: true });
  if (event.target === cy) clear();
  else if (event.target.isNode()) select(event.target.data("node").name, { move: false });
});
cy.on("mouseover", "node", () => (byId("graph").style.cursor = "pointer"));
cy.on("mouseout", "node", () => (byId("graph").style.cursor = ""));
byId("graph").addEventListener("keydown", onKey);
byId("zoom-in").addEventListener("click", () => zoomBy(cy, 1.3));
byId("zoom-out").addEventListener("click", () => zoomBy(cy, 1 / 1.3));
byId("zoom-fit").addEventListener("click", () => cy.fit(undefined, 24));
byId("zoom-top").addEventListener("click", () => toTop(cy));
byId("clear").addEventListener("click", clear);
byId("all-modules").addEventListener("click", () => chooseModule(module));
for (const box of document.querySelectorAll("[data-filter]")) {
  box.addEventListener("change", () => applyFilters(cy, module));
}

/** Shows the row of an operator in its table, from the node of the graph. */
function showRow(name) {
  const row = document.querySelector(`tr[data-row="${CSS.escape(name)}"]`);
  for (const each of document.querySelectorAll("tr.found")) each.classList.remove("found");
  if (!row) return;
  row.classList.add("found");
  row.scrollIntoView({ block: "center" });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-node], [data-module], [data-to-row]");
  if (!button) return;
  event.preventDefault();
  if (button.dataset.toRow !== undefined) return showRow(button.dataset.toRow);
  if (button.dataset.node !== undefined) {
    select(button.dataset.node);
    if (!button.closest(".details")) byId("graph").scrollIntoView({ block: "nearest" });
  } else chooseModule(button.dataset.module);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input")) return;
  event.preventDefault();
  byId("search").focus();
});

search(picture.nodes, select);
overview(cy, picture);
toTop(cy);
globalThis.qreg = { graph: cy, select }; // for the console, and for tests
document.documentElement.dataset.ready = "true";
