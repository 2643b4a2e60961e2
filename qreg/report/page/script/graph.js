// The graph, drawn by Cytoscape where Python placed it.

const READABLE = 0.6; // the zoom at which the names of nodes can be read
const MOVE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 220; // milliseconds

/** Bends of an edge as Cytoscape has them: how far along the straight line, and how far beside it. */
function bent([x0, y0], [x1, y1], bends) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = Math.hypot(dx, dy) || 1;
  const along = bends.map(([x, y]) => ((x - x0) * dx + (y - y0) * dy) / length ** 2);
  const beside = bends.map(([x, y]) => ((y - y0) * dx - (x - x0) * dy) / length);
  return { along, beside };
}

function elements(picture) {
  const places = new Map(picture.nodes.map((node) => [node.name, node.at]));
  const nodes = picture.nodes.map((node) => ({
    group: "nodes",
    data: { id: `n:${node.name}`, label: node.lines.join("\n"), node },
    position: { x: node.at[0], y: node.at[1] },
    classes: [node.state, node.defect ? "defect" : ""].filter(Boolean),
  }));
  const edges = picture.edges.map((edge, index) => ({
    group: "edges",
    data: {
      id: `e:${index}`,
      source: `n:${edge.from}`,
      target: `n:${edge.to}`,
      ...bent(places.get(edge.from), places.get(edge.to), edge.bends),
    },
    classes: [edge.changes ? "changes" : "", edge.bends.length ? "bent" : ""].filter(Boolean),
  }));
  return [...nodes, ...edges];
}

function stateStyle(state) {
  return {
    selector: `node.${state.key}`,
    style: {
      shape: state.shape,
      "border-style": state.border === "dotted" ? "dashed" : state.border,
      "border-dash-pattern": state.border === "dotted" ? [2, 4] : [5, 3], // its own dots touch
      "border-width": state.border === "double" ? 4 : 1.5,
      "border-color": colour(`${state.key}-line`),
      "background-color": colour(`${state.key}-fill`),
      color: colour(`${state.key}-ink`),
    },
  };
}

function graphStyle({ size: [width, height], states }) {
  return [
    {
      selector: "node",
      style: {
        width,
        height,
        label: "data(label)",
        "text-wrap": "wrap",
        "text-valign": "center",
        "text-halign": "center",
        "font-family": getComputedStyle(document.body).fontFamily,
        "font-size": 12,
        "line-height": 1.25,
        "min-zoomed-font-size": 7, // Cytoscape rounds zooms up to a power of two: none below a half
      },
    },
    ...states.map(stateStyle),
    {
      selector: "edge",
      style: {
        width: 1.4,
        "line-color": colour("edge"),
        "target-arrow-color": colour("edge"),
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.8,
        "curve-style": "straight",
      },
    },
    {
      selector: "edge.bent",
      style: {
        "curve-style": "round-segments",
        "segment-weights": "data(along)",
        "segment-distances": "data(beside)",
        "segment-radii": 20,
        "edge-distances": "node-position",
      },
    },
    {
      selector: "edge.changes",
      style: {
        "line-style": "dashed",
        "line-color": colour("changes"),
        "target-arrow-color": colour("changes"),
        width: 2,
      },
    },
    {
      selector: "node.defect",
      style: { "border-color": colour("warn"), "border-width": 4, "border-style": "solid" },
    },
    { selector: ".dim", style: { opacity: 0.13 } },
    { selector: "edge.near", style: { width: 3, "z-index": 5 } },
    {
      selector: "node.chosen",
      style: {
        "outline-width": 3,
        "outline-color": colour("mark"),
        "outline-offset": 3,
        "outline-opacity": 1,
        "z-index": 10,
      },
    },
  ];
}

function drawn(picture) {
  const cy = cytoscape({
    container: byId("graph"),
    elements: elements(picture),
    style: graphStyle(picture),
    layout: { name: "preset" },
    minZoom: 0.005,
    maxZoom: 3,
    autoungrabify: true,
    autounselectify: true,
    boxSelectionEnabled: false,
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    cy.style(graphStyle(picture)),
  );
  return cy;
}

/** All of a small graph; the beginning of a large one, large enough to be read. */
function toTop(cy) {
  cy.fit(undefined, 24);
  if (cy.zoom() > 1) cy.zoom(1);
  if (cy.zoom() >= READABLE) return void cy.center();
  const box = cy.nodes().boundingBox();
  const first = cy.nodes().min((node) => node.position("y")).ele;
  cy.zoom(Math.min(0.85, Math.max(READABLE, (cy.width() - 48) / box.w)));
  const fits = box.w * cy.zoom() < cy.width();
  const middle = fits ? (box.x1 + box.x2) / 2 : first.position("x");
  cy.pan({ x: cy.width() / 2 - middle * cy.zoom(), y: 28 - box.y1 * cy.zoom() });
}

/** Brings a node to the middle, in a size that can be read. */
function centre(cy, node) {
  cy.stop(true);
  cy.animate({ center: { eles: node }, zoom: Math.max(cy.zoom(), 0.85), duration: MOVE });
}

function zoomBy(cy, factor) {
  const middle = { x: cy.width() / 2, y: cy.height() / 2 };
  cy.zoom({ level: cy.zoom() * factor, renderedPosition: middle });
}
