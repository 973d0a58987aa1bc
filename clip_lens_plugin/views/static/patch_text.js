// Patch-text maps of one image: choose heads, texts and patches, and see the others follow.

drawers["patch-text"] = (place, data) => {
  const { shape: [layers, heads, tokens, texts], values } = decode(data.by_token);
  const [rows, columns] = data.grid;
  const patches = rows * columns;
  const before = tokens - patches; // the class token
  const state = { text: 0, chosen: new Set(), patch: null, contrast: false, smooth: data.smooth };
  const shown = { head: null, patch: null }; // under the pointer or the focus, over what is chosen

  const score = (l, h, n, t) => values[((l * heads + h) * tokens + n) * texts + t];
  const towards = (l, h, n) => {
    const own = score(l, h, n, state.text);
    if (!state.contrast) return own;
    let others = 0;
    for (let t = 0; t < texts; t++) if (t !== state.text) others += score(l, h, n, t);
    return own - others / (texts - 1);
  };
  const every = [];
  for (let l = 0; l < layers; l++) for (let h = 0; h < heads; h++) every.push(l * heads + h);
  /** What the whole cosine is of each text, less the mean of the others where that is asked for. */
  const contrasted = (byText) => {
    if (!state.contrast) return Array.from(byText);
    const sum = byText.reduce((a, b) => a + b, 0);
    return Array.from(byText, (value) => value - (sum - value) / (texts - 1));
  };
  const selected = () => shown.head !== null ? [shown.head] : state.chosen.size ? [...state.chosen] : every;
  const currentPatch = () => shown.patch ?? state.patch;

  /** Sums over the selected heads: by token for the text, and by text. */
  function sums() {
    const byToken = new Float64Array(tokens), byText = new Float64Array(texts);
    const patch = currentPatch();
    for (const head of selected()) {
      const l = Math.floor(head / heads), h = head % heads;
      for (let n = 0; n < tokens; n++) {
        byToken[n] += towards(l, h, n);
        if (patch === null || n === before + patch) for (let t = 0; t < texts; t++) byText[t] += score(l, h, n, t);
      }
    }
    return { byToken, byText };
  }

  // ---------------------------------------------------------------- the picture and its map
  const canvas = element("canvas", { width: columns, height: rows, class: "cl-map" });
  const mark = element("i", { class: "cl-mark", hidden: "" });
  const crop = element("div", { class: "cl-crop" }, canvas, mark);
  const [left, top, width, height] = data.crop;
  crop.style.cssText = `left:${left * 100}%;top:${top * 100}%;width:${width * 100}%;height:${height * 100}%`;
  const photo = element("div", {
    class: "cl-photo", tabindex: "0", role: "application",
    "aria-label": "The image and its map. Arrow keys move over the patches, Enter keeps one, Escape lets it go.",
  }, element("img", { src: data.picture, alt: data.name }), crop);
  if (data.unseen) photo.classList.add("cl-unseen");
  const mapScale = scaleBar(scaleColours(-1, 1, data.colours), "added by a patch (cosine), on a scale of this map’s own");
  const smooth = element("input", { type: "checkbox" });
  smooth.checked = state.smooth;
  const mapped = element("input", { type: "checkbox", checked: "" });
  const legend = element("div", { class: "cl-legend" }, mapScale.node,
    element("label", {}, smooth, " smooth"), element("label", {}, mapped, " map"));
  if (data.unseen) legend.append(element("span", {}, "Faded: cropped away, not seen by the model."));

  // ---------------------------------------------------------------- texts
  const contrast = element("input", { type: "checkbox" });
  const list = element("div", { class: "cl-texts", role: "radiogroup", "aria-label": "Text" });
  const textButtons = data.texts.map((text, t) => {
    const button = element("button", { type: "button", role: "radio", class: "cl-text" },
      element("span", { class: "cl-name" }, text), element("b", { class: "cl-number" }),
      element("span", { class: "cl-of" }), element("span", { class: "cl-number cl-added" }),
      element("span", { class: "cl-track", "aria-hidden": "true" }, element("i")));
    button.addEventListener("click", () => { state.text = t; update(); });
    list.append(button);
    return button;
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    state.text = (state.text + step + texts) % texts;
    update();
    textButtons[state.text].focus();
  });

  // ---------------------------------------------------------------- heads
  const grid = element("div", { class: "cl-heads", role: "grid", "aria-label": "Heads, one row per layer",
    "aria-multiselectable": "true" });
  grid.style.gridTemplateColumns = `auto repeat(${heads}, minmax(0, 1fr))`;
  const cells = [];
  const layerButtons = [];
  grid.append(element("div", { class: "cl-axis", "aria-hidden": "true" }, "layer"));
  for (let l = 0; l < layers; l++) { // layer 0 at the top, as everywhere
    const row = element("div", { role: "row", class: "cl-row" });
    const name = element("button", { type: "button", role: "rowheader", tabindex: "-1", class: "cl-layer",
      title: `all heads of layer ${l}` }, `${l}`);
    name.addEventListener("click", () => choose(every.filter((head) => Math.floor(head / heads) === l), false));
    layerButtons[l] = name;
    row.append(name);
    for (let h = 0; h < heads; h++) {
      const head = l * heads + h;
      const cell = element("button", { type: "button", role: "gridcell", tabindex: "-1", class: "cl-cell" });
      cell.addEventListener("click", (event) => choose([head], event.shiftKey || event.ctrlKey || event.metaKey));
      cell.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") { shown.head = head; update(); } });
      cell.addEventListener("pointerleave", () => { if (shown.head === head) { shown.head = null; update(); } });
      cells[head] = cell;
      row.append(cell);
    }
    grid.append(row);
  }
  const numbers = Array.from({ length: heads }, (_, h) => element("div", { class: "cl-column" }, `${h}`));
  grid.append(element("div", { class: "cl-numbers", "aria-hidden": "true" },
    element("div", { class: "cl-axis" }, "head"), ...numbers));
  const headScale = scaleBar("linear-gradient(90deg, var(--minus), var(--zero), var(--plus))", "");
  const all = element("button", { type: "button", class: "cl-all" }, "all heads");
  all.addEventListener("click", () => choose([], false));

  function choose(chosen, add) {
    const same = chosen.length === state.chosen.size && chosen.every((head) => state.chosen.has(head));
    if (add) for (const head of chosen) state.chosen.has(head) ? state.chosen.delete(head) : state.chosen.add(head);
    else state.chosen = new Set(same ? [] : chosen);
    shown.head = null;
    update();
  }
  let focused = [0, -1]; // -1 is the layer's name
  function focusCell(l, h) {
    focused = [Math.min(layers - 1, Math.max(0, l)), Math.min(heads - 1, Math.max(-1, h))];
    reachable();
    at(focused).focus();
  }
  const at = ([l, h]) => h < 0 ? layerButtons[l] : cells[l * heads + h];
  function reachable() {
    for (const cell of [...cells, ...layerButtons]) cell.tabIndex = -1;
    at(focused).tabIndex = 0;
  }
  grid.addEventListener("keydown", (event) => {
    const [l, h] = focused;
    const moves = { ArrowUp: [l - 1, h], ArrowDown: [l + 1, h], ArrowLeft: [l, h - 1], ArrowRight: [l, h + 1],
      Home: [l, -1], End: [l, heads - 1] };
    if (event.key in moves) { event.preventDefault(); focusCell(...moves[event.key]); }
    else if (event.key === " " && h >= 0) { event.preventDefault(); choose([l * heads + h], true); }
  });
  grid.addEventListener("focusin", (event) => {
    const l = layerButtons.indexOf(event.target), head = cells.indexOf(event.target);
    if (l >= 0) focused = [l, -1];
    else if (head >= 0) focused = [Math.floor(head / heads), head % heads];
    reachable();
  });
  reachable();

  // ---------------------------------------------------------------- patches
  function patchUnder(event) {
    const box = crop.getBoundingClientRect();
    const c = Math.floor((event.clientX - box.left) / box.width * columns);
    const r = Math.floor((event.clientY - box.top) / box.height * rows);
    return r >= 0 && r < rows && c >= 0 && c < columns ? r * columns + c : null;
  }
  photo.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const patch = patchUnder(event);
    if (patch !== shown.patch) { shown.patch = patch; update(); }
  });
  photo.addEventListener("pointerleave", () => { shown.patch = null; update(); });
  photo.addEventListener("click", (event) => {
    const patch = patchUnder(event);
    state.patch = patch === state.patch ? null : patch;
    shown.patch = null;
    update();
  });
  photo.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      event.preventDefault();
      const from = currentPatch();
      const [r, c] = from === null ? [0, 0] : [Math.floor(from / columns) + step[0], from % columns + step[1]];
      shown.patch = Math.min(rows - 1, Math.max(0, r)) * columns + Math.min(columns - 1, Math.max(0, c));
    } else if (event.key === "Enter") state.patch = shown.patch;
    else if (event.key === "Escape") state.patch = shown.patch = null;
    else return;
    update();
  });
  photo.addEventListener("focusout", () => { shown.patch = null; update(); });
  contrast.addEventListener("change", () => { state.contrast = contrast.checked; update(); });
  mapped.addEventListener("change", () => photo.classList.toggle("cl-plain", !mapped.checked));
  smooth.addEventListener("change", () => { state.smooth = smooth.checked; update(); });

  // ---------------------------------------------------------------- what is shown
  const readout = element("p", { class: "cl-readout", role: "status" });
  const parts = element("table", { class: "cl-table cl-parts" });
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
  const greatestOf = (array) => array.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1e-9;
  const short = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Number(Math.abs(value).toPrecision(2));

  function paint(byToken) {
    // Patches that add next to nothing beside the class token stay pale.
    const limit = Math.max(greatestOf(byToken.subarray(before)), greatestOf(byToken.subarray(0, before)) / patches);
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < patches; i++) {
      image.data.set(overPhotograph(byToken[before + i] / limit, data.colours), 4 * i);
    }
    context.putImageData(image, 0, 0);
    canvas.style.imageRendering = state.smooth ? "auto" : "pixelated";
    mapScale.show([short(-limit), "0", short(limit)]);
  }

  function colourCells() {
    const patch = currentPatch();
    const scores = every.map((head) => {
      const l = Math.floor(head / heads), h = head % heads;
      if (patch !== null) return towards(l, h, before + patch);
      let sum = 0;
      for (let n = 0; n < tokens; n++) sum += towards(l, h, n);
      return sum;
    });
    const limit = greatestOf(scores);
    headScale.show([short(-limit), "0", short(limit)],
      patch === null ? "added by a head (cosine)" : "added by this patch through a head (cosine)");
    for (const head of every) {
      const relative = scores[head] / limit;
      const share = Math.round(100 * Math.abs(relative));
      const cell = cells[head];
      cell.style.background = `color-mix(in srgb, var(${relative < 0 ? "--minus" : "--plus"}) ${share}%, var(--zero))`;
      const named = `layer ${Math.floor(head / heads)}, head ${head % heads}: ${signed(scores[head])}`;
      cell.title = named;
      cell.setAttribute("aria-label", named);
      cell.setAttribute("aria-selected", String(state.chosen.has(head)));
    }
  }

  function nameTexts(byText) {
    const added = contrasted(byText), cosine = contrasted(data.cosine);
    const limit = greatestOf(added);
    const through = `of which by ${currentPatch() === null ? "" : "this patch through "}${named().toLowerCase()}`;
    textButtons.forEach((button, t) => {
      button.setAttribute("aria-checked", String(t === state.text));
      button.tabIndex = t === state.text ? 0 : -1;
      button.querySelector("b").textContent = signed(cosine[t]);
      button.querySelector(".cl-of").textContent = through;
      button.querySelector(".cl-added").textContent = signed(added[t]);
      const fill = button.querySelector("i");
      const length = 50 * Math.abs(added[t]) / limit;
      fill.style.cssText = `width:${length}%;left:${added[t] < 0 ? 50 - length : 50}%;` +
        `background:var(${added[t] < 0 ? "--minus" : "--plus"})`;
    });
  }

  function named() {
    const heads_ = selected();
    if (heads_.length === every.length) return "All heads";
    if (heads_.length === 1) return `Layer ${Math.floor(heads_[0] / heads)}, head ${heads_[0] % heads}`;
    const layers_ = new Set(heads_.map((head) => Math.floor(head / heads)));
    if (layers_.size === 1 && heads_.length === heads) return `All heads of layer ${[...layers_][0]}`;
    return `${heads_.length} heads`;
  }

  /** The cosine, and what adds up to it: the chosen heads, the other heads, and the rest. */
  function addUp(byToken) {
    let ofPatches = 0, ofOthers = 0, ofAll = 0;
    for (let n = 0; n < tokens; n++) n < before ? ofOthers += byToken[n] : ofPatches += byToken[n];
    for (const head of every) {
      for (let n = 0; n < tokens; n++) ofAll += towards(Math.floor(head / heads), head % heads, n);
    }
    const cosine = contrasted(data.cosine)[state.text];
    const rows_ = [[`of which by ${named().toLowerCase()}, patches`, ofPatches]];
    if (before) rows_.push([`by ${named().toLowerCase()}, ${before > 1 ? "class token and registers" : "class token"}`, ofOthers]);
    if (selected().length < every.length) rows_.push(["by other heads", ofAll - ofPatches - ofOthers]);
    rows_.push(["by MLPs and constants", cosine - ofAll]);
    const row = (cell, [name, value]) => element("tr", {}, element(cell, { scope: cell === "th" ? "row" : null }, name),
      element(cell, {}, signed(value)));
    parts.replaceChildren(element("caption", {}, about()),
      element("thead", {}, row("th", ["cosine", cosine])), element("tbody", {}, ...rows_.map((each) => row("td", each))));
  }

  const about = () => `“${data.texts[state.text]}”${state.contrast ? " minus the mean of the others" : ""}`;
  const where = (i) => `row ${Math.floor(i / columns)}, column ${i % columns}`;

  function tell(byToken) {
    const patch = currentPatch(), of = byToken.subarray(before);
    const least = of.indexOf(of.reduce((a, b) => Math.min(a, b))), most = of.indexOf(of.reduce((a, b) => Math.max(a, b)));
    readout.textContent = `${named()}, ${about()}: ` + (patch === null
      ? `patches add from ${signed(of[least])} (${where(least)}) to ${signed(of[most])} (${where(most)})`
      : `the patch in ${where(patch)} adds ${signed(of[patch])} (cosine)`);
  }

  function update() {
    const { byToken, byText } = sums();
    paint(byToken);
    colourCells();
    nameTexts(byText);
    addUp(byToken);
    tell(byToken);
    all.setAttribute("aria-pressed", String(state.chosen.size === 0));
    const patch = currentPatch();
    mark.hidden = patch === null;
    if (patch !== null) {
      mark.style.cssText = `left:${100 * (patch % columns) / columns}%;top:${100 * Math.floor(patch / columns) / rows}%;` +
        `width:${100 / columns}%;height:${100 / rows}%`;
    }
  }

  const help = element("p", { class: "cl-soft" },
    "Point at a patch, a head or a text, and the others follow; click keeps it. Shift and click, or the space bar, adds a head. ",
    "Orange adds to the cosine with the text, purple takes away from it; what adds nothing is clear.");
  const side = element("div", { class: "cl-side" },
    element("div", { class: "cl-texts-title" }, element("span", {}, "text"), element("span", {}, "cosine")), list);
  if (texts > 1) side.append(element("label", { class: "cl-contrast" }, contrast, " minus the mean of the other texts"));
  side.append(element("div", { class: "cl-heads-title" }, element("span", {}, "heads"), all), grid, headScale.node);
  place.classList.add("cl-patch-text");
  const left_ = element("div", { class: "cl-left" }, photo, legend, parts);
  place.append(element("div", { class: "cl-columns" }, left_, side), readout, help);
  update();
};
