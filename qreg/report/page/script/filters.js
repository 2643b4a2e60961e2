// What is dimmed: nodes whose state is not ticked in the legend, or that are not in the chosen module.

function within(node, module) {
  if (module === null) return true;
  if (node.module === undefined) return module === "";
  return module === "" || node.module === module || node.module.startsWith(`${module}.`);
}

function applyFilters(cy, module) {
  const boxes = document.querySelectorAll("[data-filter]");
  const shown = new Set([...boxes].filter((box) => box.checked).map((box) => box.dataset.filter));
  cy.batch(() => {
    cy.nodes().forEach((each) => {
      const node = each.data("node");
      each.toggleClass("dim", !shown.has(node.state) || !within(node, module));
    });
    cy.edges().forEach((edge) => {
      edge.toggleClass("dim", edge.source().hasClass("dim") || edge.target().hasClass("dim"));
    });
  });
}
