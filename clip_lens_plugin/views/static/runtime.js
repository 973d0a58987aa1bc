// Finds what is to be drawn on the page, whenever it comes in, and draws it once.

const drawers = {};

/** Numbers that encoding.py wrote: {shape, values}, values in one typed array. */
function decode(packed) {
  const bytes = Uint8Array.from(atob(packed.float32 ?? packed.uint8), (c) => c.charCodeAt(0));
  if (packed.float32 !== undefined) return { shape: packed.shape, values: new Float32Array(bytes.buffer) };
  const [rows, columns] = packed.shape.slice(-2);
  const values = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    values[i] = (bytes[i] / 255) * packed.greatest[Math.floor(i / (rows * columns))];
  }
  return { shape: packed.shape, values };
}

/** Nested arrays of a decoded array, as circuitsvis takes them. */
function nested({ shape, values }) {
  if (shape.length === 1) return Array.from(values);
  const size = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) =>
    nested({ shape: shape.slice(1), values: values.slice(i * size, (i + 1) * size) }));
}

/** An element; text and attributes are set as such, so nothing in them is markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A number with its sign and so many places after the point. */
const signed = (value, places = 4) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(places)}`;
/** A number with its sign, to two digits. */
const short = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Number(Math.abs(value).toPrecision(2));
const greatestOf = (array) => array.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1e-9;

/** A bar of colours over numbers, which `show` sets from the left end to the right, and what they are. */
function scaleBar(background, label) {
  const bar = element("div", { class: "cl-scale", "aria-hidden": "true" });
  bar.style.background = background;
  const ticks = element("div", { class: "cl-ticks" });
  const named = element("div", {}, label);
  const show = (numbers, name = label) => {
    ticks.replaceChildren(...numbers.map((number) => element("span", {}, number)));
    named.textContent = name;
  };
  return { node: element("div", { class: "cl-scale-box" }, bar, ticks, named), show };
}

/** The colour of a value over a photograph, whose size is at most 1: clear at 0, so that nothing hides nothing. */
function overPhotograph(relative, { adds, takes, opacity }) {
  return [...(relative < 0 ? takes : adds), Math.round(255 * opacity * Math.abs(relative))];
}

/** The same colours from one value to another, as a background on white. */
function scaleColours(from, to, colours) {
  const stops = Array.from({ length: 9 }, (_, i) => overPhotograph(from + (i / 8) * (to - from), colours))
    .map(([r, g, b, a]) => `rgb(${r} ${g} ${b} / ${(a / 255).toFixed(3)})`);
  return `linear-gradient(90deg, ${stops.join(", ")}), #fff`;
}

let circuitsVisLoading = null;

/** circuitsvis, unpacked from the page when it is first needed. */
function circuitsVis() {
  circuitsVisLoading ??= (async () => {
    const packed = await found("clip-lens-circuitsvis", 5000);
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const unpacked = new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
    const script = element("script");
    script.textContent = await unpacked.text();
    document.head.append(script);
    return window.CircuitsVis;
  })();
  circuitsVisLoading.catch(() => { circuitsVisLoading = null; });
  return circuitsVisLoading;
}

function found(id, patience) {
  return new Promise((resolve, reject) => {
    const started = Date.now();
    const look = () => {
      const node = document.getElementById(id);
      if (node) resolve(node);
      else if (Date.now() - started > patience) reject(new Error("the output that holds circuitsvis is not on the page"));
      else setTimeout(look, 100);
    };
    look();
  });
}

let lastId = 0;

/** A component of circuitsvis: {component, props, packed}, where packed holds the props that are arrays. */
drawers.circuitsvis = async (place, data) => {
  const library = await circuitsVis();
  const props = { ...data.props };
  for (const [name, packed] of Object.entries(data.packed ?? {})) {
    const { shape, values } = decode(packed);
    props[name] = nested({ shape, values: Array.from(values, (value) => Number(value.toPrecision(3))) });
  }
  const id = `clip-lens-circuitsvis-${++lastId}`;
  place.append(element("div", { id, class: "cl-circuitsvis" }));
  library.render(id, library[data.component], props);
};

function offer(node) {
  node.dataset.state = "offered";
  const button = element("button", { type: "button", class: "cl-offer" }, node.dataset.onDemand);
  button.addEventListener("click", () => {
    button.remove();
    delete node.dataset.state;
    delete node.dataset.onDemand;
    draw(node);
  });
  node.prepend(button);
}

async function draw(node) {
  if (node.dataset.state) return;
  if (node.dataset.onDemand) return offer(node);
  const source = node.querySelector(":scope > script[type='application/json']");
  const drawer = drawers[node.dataset.kind];
  if (!source || !drawer) return;
  node.dataset.state = "drawing";
  const place = element("div", { class: "cl-place", "data-lm-suppress-shortcuts": "true" }); // JupyterLab leaves our keys alone
  const picture = node.querySelector(":scope > .cl-static");
  try {
    node.append(place);
    await drawer(place, JSON.parse(source.textContent));
    if (picture) picture.hidden = true;
    node.dataset.state = "drawn";
  } catch (error) {
    place.remove();
    node.dataset.state = "failed";
    node.append(element("p", { class: "cl-soft" },
      `This is the static picture: ${error.message}. Run the first cell with such a view again.`));
  }
}

function scan(root) {
  if (!(root instanceof Element || root instanceof Document)) return;
  if (root instanceof Element && root.matches(".cl-drawn")) draw(root);
  for (const node of root.querySelectorAll(".cl-drawn")) draw(node);
}

window.clipLens = { scan };
new MutationObserver((records) => {
  if (document.readyState === "loading") return; // What is still being parsed may be half there.
  for (const record of records) for (const node of record.addedNodes) scan(node);
}).observe(document.documentElement, { childList: true, subtree: true });
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => scan(document));
else setTimeout(() => scan(document));
