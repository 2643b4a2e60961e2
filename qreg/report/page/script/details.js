// All that is known of the selected node.

const CODE = new Set(["operator", "line", "types", "lowered as", "config", "annotator", "distribution"]);

function chips(names, attribute) {
  const buttons = names.map((name) =>
    element("button", { type: "button", class: "chip", [attribute]: name }, name || "(the model)"),
  );
  return element("span", { class: "chips" }, ...buttons);
}

function list(rows) {
  const cells = rows.flatMap(([label, value]) => [
    element("dt", {}, label),
    element("dd", CODE.has(label) ? { class: "code" } : {}, value),
  ]);
  return element("dl", {}, ...cells);
}

/** Groups with their rows; what is not known of a node is left out. */
function groups(node, picture, near) {
  const found = new Map();
  const add = (group, label, value) => {
    if (!found.has(group)) found.set(group, []);
    found.get(group).push([label, value]);
  };
  (node.texts || []).forEach((text, index) => {
    if (text && picture.details[index][1] !== "reason") add(...picture.details[index], text);
  });
  if (node.pattern && node.pattern.length > 1) add("Decision", "pattern", chips(node.pattern, "data-node"));
  if (node.row !== undefined) add("Origin", "table", chips([node.row], "data-to-row"));
  if (node.module !== undefined) add("Origin", "module", chips([node.module], "data-module"));
  if (near.inputs.length) add("Graph", "inputs", chips(near.inputs, "data-node"));
  if (near.users.length) add("Graph", "users", chips(near.users, "data-node"));
  return found;
}

function showDetails(node, picture, near) {
  const state = picture.states.find((each) => each.key === node.state);
  const why = (node.texts || [])[picture.details.findIndex(([, label]) => label === "reason")];
  const parts = [
    element("h3", {}, node.name),
    element("p", { class: "state" }, symbol(node.state), state.label),
    why ? element("p", { class: "why" }, why) : null,
    node.defect
      ? element("p", { class: "defect" }, "Defect: decided for int8, and does not run in it.")
      : null,
  ];
  for (const [group, rows] of groups(node, picture, near)) {
    parts.push(element("h4", {}, group), list(rows));
  }
  byId("details").replaceChildren(...parts.filter(Boolean));
  byId("details").scrollTop = 0;
}
