// Patch-text maps of one image: choose heads, texts and patches, and see the others follow.

drawers["patch-text"] = (place, data) => {
  const { shape: [layers, heads, tokens, texts], values } = decode(data.by_token);
  const [rows, columns] = data.grid;
  const patches = rows * columns;
  const before = tokens - patches; // the class token
  // Of map: "alone", "others" (minus the mean of the others), "leads" (which text leads), or the number of a text that is taken away.
  const state = { chosen: new Set(), map: "alone" };
  const shown = { head: null }; // under the pointer, over what is chosen

  const score = (l, h, n, t) => values[((l * heads + h) * tokens + n) * texts + t];
  const towards = (l, h, n) => {
    const own = score(l, h, n, choice.chosen());
    if (taken() !== null) return own - score(l, h, n, taken());
    if (state.map !== "others") return own;
    let others = 0;
    for (let t = 0; t < texts; t++) if (t !== choice.chosen()) others += score(l, h, n, t);
    return own - others / (texts - 1);
  };
  const every = [];
  for (let l = 0; l < layers; l++) for (let h = 0; h < heads; h++) every.push(l * heads + h);
  /** The number of the text that is taken away, if one is. */
  const taken = () => typeof state.map === "number" ? state.map : null;
  /** A number of each text, less another's or the mean of the others where that is asked for. */
  const contrasted = (byText) => {
    if (taken() !== null) return Array.from(byText, (value) => value - byText[taken()]);
    if (state.map !== "others") return Array.from(byText);
    const sum = byText.reduce((a, b) => a + b, 0);
    return Array.from(byText, (value) => value - (sum - value) / (texts - 1));
  };
  const selected = () => shown.head !== null ? [shown.head] : state.chosen.size ? [...state.chosen] : every;
  const map = photoMap(data, () => update());
  const choice = textChoice(data.texts, () => { if (taken() === choice.chosen()) show("alone"); update(); });
  const parts = partsTable();

  /** Sums over the selected heads: by token for the text, and by text. */
  function sums() {
    const byToken = new Float64Array(tokens), byText = new Float64Array(texts);
    const patch = map.patch();
    for (const head of selected()) {
      const l = Math.floor(head / heads), h = head % heads;
      for (let n = 0; n < tokens; n++) {
        byToken[n] += towards(l, h, n);
        if (patch === null || n === before + patch) for (let t = 0; t < texts; t++) byText[t] += score(l, h, n, t);
      }
    }
    return { byToken, byText };
  }

  /** At each patch the text whose map, through the selected heads, stands highest above its own mean; null for none. */
  function leaders() {
    const found = Array.from({ length: patches }, () => ({ text: null, above: 0 }));
    const own = new Float64Array(patches);
    for (let t = 0; t < texts; t++) {
      own.fill(0);
      for (const head of selected()) {
        for (let i = 0; i < patches; i++) own[i] += score(Math.floor(head / heads), head % heads, before + i, t);
      }
      const mean = own.reduce((a, b) => a + b, 0) / patches;
      const deviation = Math.sqrt(own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / patches);
      own.forEach((value, i) => {
        const above = value - mean;
        if (above > data.clear * deviation && above > found[i].above) found[i] = { text: t, above };
      });
    }
    return found;
  }

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

  const kinds = [["alone", "the map of the text"], ["others", "minus the mean of the other texts"],
    ...(texts > 2 ? data.texts.map((text, t) => [t, `minus “${text}”`]) : []), ["leads", "which text leads at each patch"]];
  const kind = element("select", {}, ...kinds.map(([, name], i) => element("option", { value: i }, name)));
  kind.addEventListener("change", () => { state.map = kinds[kind.value][0]; update(); });
  function show(map) {
    state.map = map;
    kind.value = kinds.findIndex(([each]) => each === map);
  }

  // ---------------------------------------------------------------- what is shown
  const readout = element("p", { class: "cl-readout", role: "status" });

  function colourCells() {
    const patch = map.patch();
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
    choice.show(cosine, `of which by ${map.patch() === null ? "" : "this patch through "}${named().toLowerCase()}`, added);
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
    const cosine = contrasted(data.cosine)[choice.chosen()];
    const rows_ = [[`of which by ${named().toLowerCase()}, patches`, ofPatches]];
    if (before) rows_.push([`by ${named().toLowerCase()}, ${before > 1 ? "class token and registers" : "class token"}`, ofOthers]);
    if (selected().length < every.length) rows_.push(["by other heads", ofAll - ofPatches - ofOthers]);
    rows_.push(["by MLPs and constants", cosine - ofAll]);
    parts.show(about(), cosine, rows_);
  }

  const about = () => `“${data.texts[choice.chosen()]}”${state.map === "others" ? " minus the mean of the others" : taken() === null ? "" : ` minus “${data.texts[taken()]}”`}`;

  function tell(byToken) {
    const patch = map.patch(), of = byToken.subarray(before);
    const least = of.indexOf(of.reduce((a, b) => Math.min(a, b))), most = of.indexOf(of.reduce((a, b) => Math.max(a, b)));
    readout.textContent = `${named()}, ${about()}: ` + (patch === null
      ? `patches add from ${signed(of[least])} (${map.where(least)}) to ${signed(of[most])} (${map.where(most)})`
      : `the patch in ${map.where(patch)} adds ${signed(of[patch])} (cosine)`);
  }

  function showLeaders() {
    const found = leaders(), patch = map.patch();
    const counts = new Map();
    for (const { text } of found) counts.set(text, (counts.get(text) ?? 0) + 1);
    const led = [...counts].filter(([text]) => text !== null).sort(([a], [b]) => a - b);
    map.paintNamed(found.map(({ text }) => text === null ? null : data.topics[text]),
      [...led.map(([text, n]) => [`${data.texts[text]}: ${n}`, data.topics[text]]), [`none: ${counts.get(null) ?? 0}`, null]]);
    const at = patch === null ? null : found[patch];
    readout.textContent = `${named()}: ` + (at === null
      ? led.map(([text, n]) => `“${data.texts[text]}” leads at ${n}`).concat(`none at ${counts.get(null) ?? 0}`).join(", ") +
        ` of ${patches} patches`
      : `in ${map.where(patch)} ` + (at.text === null ? "no text leads"
        : `“${data.texts[at.text]}” leads, ${signed(at.above)} above its mean over the patches (cosine)`));
  }

  function update() {
    const { byToken, byText } = sums();
    for (const [i, [each]] of kinds.entries()) kind.options[i].disabled = each === choice.chosen();
    if (state.map !== "leads") map.paint(byToken);
    colourCells();
    nameTexts(byText);
    addUp(byToken);
    state.map === "leads" ? showLeaders() : tell(byToken);
    all.setAttribute("aria-pressed", String(state.chosen.size === 0));
  }

  const help = element("p", { class: "cl-soft" },
    "Point at a patch, a head or a text, and the others follow; click keeps it. Shift and click, or the space bar, adds a head. ",
    "Orange adds to the cosine with the text, purple takes away from it; what adds nothing is clear. ",
    texts > 1 ? "A text leads where its map stands highest above its own mean over the patches, by half its standard deviation or more." : "");
  const side = element("div", { class: "cl-side" }, ...choice.nodes);
  if (texts > 1) side.append(element("label", { class: "cl-contrast" }, "show ", kind));
  side.append(element("div", { class: "cl-heads-title" }, element("span", {}, "heads"), all), grid, headScale.node);
  place.classList.add("cl-patch-text");
  const left_ = element("div", { class: "cl-left" }, map.node, map.legend, parts.node);
  place.append(element("div", { class: "cl-columns" }, left_, side), readout, help);
  update();
};
