// The whole graph in a strip beside it, however long it is: where one is, and where to go.

function overview(cy, picture) {
  const strip = byId("overview");
  const canvas = strip.querySelector("canvas");
  const frame = strip.querySelector(".window");
  const box = cy.nodes().boundingBox();
  strip.hidden = box.h * READABLE < cy.height();
  if (strip.hidden) return;

  function paint() {
    const [width, height] = [strip.clientWidth, strip.clientHeight];
    const scale = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const across = Math.min((width - 8) / box.w, height / box.h * 4);
    const size = [Math.max(4, picture.size[0] * across), Math.max(1, (picture.size[1] * height) / box.h)];
    for (const { at, state } of picture.nodes) {
      context.fillStyle = colour(`${state}-line`);
      const x = width / 2 + (at[0] - box.x1 - box.w / 2) * across;
      context.fillRect(x - size[0] / 2, ((at[1] - box.y1) * height) / box.h - size[1] / 2, ...size);
    }
  }

  function follow() {
    const { y1, y2 } = cy.extent();
    const part = (y) => Math.min(1, Math.max(0, (y - box.y1) / box.h)) * 100;
    frame.style.top = `${part(y1)}%`;
    frame.style.height = `${part(y2) - part(y1)}%`;
  }

  function go(event) {
    const { top, height } = strip.getBoundingClientRect();
    const y = box.y1 + ((event.clientY - top) / height) * box.h;
    cy.stop(true);
    cy.pan({ x: cy.pan().x, y: cy.height() / 2 - y * cy.zoom() });
  }

  strip.addEventListener("pointerdown", (event) => {
    strip.setPointerCapture(event.pointerId);
    go(event);
  });
  strip.addEventListener("pointermove", (event) => event.buttons && go(event));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new ResizeObserver(() => (paint(), follow())).observe(strip);
  cy.on("viewport", follow);
}
