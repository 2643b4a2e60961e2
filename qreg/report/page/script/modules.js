// The module tree, next to the graph: a module's name shows its nodes.

function markModule(path) {
  for (const button of document.querySelectorAll(".tree [data-module]")) {
    button.classList.toggle("chosen", button.dataset.module === path);
  }
  const chosen = document.querySelector(".tree .chosen");
  for (let at = chosen && chosen.closest("details"); at; at = at.parentElement.closest("details")) {
    at.open = true;
  }
  byId("all-modules").hidden = path === null;
}

/** Shows a module's nodes; a large module from its beginning, so that its names can be read. */
function toModule(cy, path) {
  const nodes = cy.nodes().filter((each) => within(each.data("node"), path));
  if (nodes.empty()) return;
  cy.stop(true);
  const box = nodes.boundingBox();
  const whole = Math.min((cy.width() - 80) / box.w, (cy.height() - 80) / box.h);
  const zoom = Math.min(1, Math.max(READABLE, whole));
  const top = whole >= READABLE ? (cy.height() - box.h * zoom) / 2 : 40;
  const pan = { x: cy.width() / 2 - ((box.x1 + box.x2) / 2) * zoom, y: top - box.y1 * zoom };
  cy.animate({ zoom, pan, duration: MOVE });
}
