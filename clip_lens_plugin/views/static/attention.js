// What the class token attends to: one tab per layer, one map per head, and one head enlarged with its numbers.
// Data of class_attention_view in attention.py: {picture, patches [l, h, rows, columns], itself [l, h], colours}.

drawers.attention = (() => {
  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  let views = 0;

  const number = (value) => (value < 1e-4 && value > 0 ? value.toExponential(1) : String(+value.toPrecision(2)));

  /** The picture in grey under the map of one head. */
  function map(head, { picture, colours }, rows, columns) {
    const canvas = element("canvas", { width: columns, height: rows });
    const pixels = new ImageData(columns, rows);
    head.values.forEach((value, i) => {
      pixels.data.set(overPhotograph(head.greatest ? value / head.greatest : 0, colours), 4 * i);
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const shown = element("div", { class: "cl-attention-map" }, element("img", { src: picture, alt: "" }), canvas);
    shown.style.aspectRatio = `${columns} / ${rows}`;
    return shown;
  }

  /** One head with a patch chosen by pointer or arrow keys, whose number stands in a line of text. */
  function enlarged(head, data, rows, columns, close) {
    const large = map(head, data, rows, columns);
    const scale = scaleBar(scaleColours(0, 1, data.colours), "attention weight");
    scale.show(["0", number(head.greatest / 2), number(head.greatest)]);
    const mark = element("div", { class: "cl-attention-patch", hidden: "" });
    const line = element("p", { "aria-live": "polite" });
    const help = "Arrow keys or the pointer choose a patch, Escape goes back to the heads.";
    let chosen = head.values.indexOf(head.values.reduce((a, b) => Math.max(a, b)));
    const name = (i) => `row ${Math.floor(i / columns)}, column ${i % columns}`;
    line.textContent = `${head.name}: ${number(head.itself)} on the class token itself, at most ${number(head.greatest)} `
      + `on a patch (${name(chosen)}).`;
    const choose = (i) => {
      if (i === chosen && !mark.hidden) return;
      chosen = i;
      mark.hidden = false;
      Object.assign(mark.style, {
        left: `${(100 * (i % columns)) / columns}%`, top: `${(100 * Math.floor(i / columns)) / rows}%`,
        width: `${100 / columns}%`, height: `${100 / rows}%`,
      });
      // Eight bits cannot tell what is less than half a step from nothing.
      const value = head.values[i] || !head.greatest ? number(head.values[i]) : `less than ${number(head.greatest / 510)}`;
      line.textContent = `${head.name}, ${name(i)}: ${value}`;
    };
    const under = (event) => {
      const box = large.getBoundingClientRect();
      const row = Math.floor((rows * (event.clientY - box.top)) / box.height);
      const column = Math.floor((columns * (event.clientX - box.left)) / box.width);
      if (row >= 0 && row < rows && column >= 0 && column < columns) choose(row * columns + column);
    };
    large.append(mark);
    for (const [key, value] of Object.entries({ tabindex: 0, role: "application", "aria-label": `${head.name}. ${help}` })) {
      large.setAttribute(key, value);
    }
    large.addEventListener("pointermove", under);
    large.addEventListener("pointerdown", under);
    large.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return close();
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      if (mark.hidden) return choose(chosen);
      const row = Math.min(rows - 1, Math.max(0, Math.floor(chosen / columns) + step[0]));
      const column = Math.min(columns - 1, Math.max(0, (chosen % columns) + step[1]));
      choose(row * columns + column);
    });
    return [line, large, scale.node, element("p", { class: "cl-soft" }, help)];
  }

  return (place, data) => {
    const id = `clip-lens-attention-${++views}`;
    place.dataset.lmSuppressShortcuts = "true"; // JupyterLab would move between cells at our arrow keys.
    const patches = decode(data.patches), itself = decode(data.itself).values;
    const [layers, heads, rows, columns] = patches.shape;
    const tabs = element("div", { class: "cl-attention-layers", role: "tablist", "aria-label": "Layer" });
    const grid = element("div", { class: "cl-attention-heads" });
    const large = element("div", { class: "cl-attention-large", id: `${id}-large` });
    const scale = scaleBar(scaleColours(0, 1, data.colours), "attention weight, each map on a scale of its own");
    scale.show(["0", "the map’s greatest (patch ≤)"]);
    const panel = element("div", { id: `${id}-panel`, role: "tabpanel" }, grid, scale.node, large);
    let layer = -1, open = null;

    const headOf = (h) => {
      const at = layer * heads + h, size = rows * columns;
      const values = patches.values.subarray(at * size, (at + 1) * size);
      const greatest = values.reduce((a, b) => Math.max(a, b), 0);
      return { name: `Layer ${layer}, head ${h}`, values, greatest, itself: itself[at] };
    };

    const enlarge = (h) => {
      open = h;
      [...grid.children].forEach((button, i) => button.setAttribute("aria-expanded", i === h));
      large.replaceChildren(...(h === null ? [] : enlarged(headOf(h), data, rows, columns, () => {
        enlarge(null);
        grid.children[h].focus();
      })));
    };

    const select = (chosen) => {
      if (chosen === layer) return;
      layer = chosen;
      [...tabs.children].forEach((tab, i) => {
        tab.setAttribute("aria-selected", i === layer);
        tab.tabIndex = i === layer ? 0 : -1;
      });
      panel.setAttribute("aria-labelledby", tabs.children[layer].id);
      grid.replaceChildren(...Array.from({ length: heads }, (_, h) => {
        const head = headOf(h);
        const button = element("button", { type: "button", "aria-controls": large.id },
          map(head, data, rows, columns), element("span", {}, `head ${h}`),
          element("span", {}, `CLS ${number(head.itself)}`), element("span", {}, `patch ≤ ${number(head.greatest)}`));
        button.addEventListener("click", () => {
          enlarge(open === h ? null : h);
          large.querySelector("[tabindex]")?.focus();
        });
        return button;
      }));
      enlarge(open);
    };

    for (let l = 0; l < layers; l++) {
      const tab = element("button", { type: "button", role: "tab", id: `${id}-tab-${l}`, "aria-controls": panel.id,
        "aria-label": `Layer ${l}` }, String(l));
      tab.addEventListener("click", () => select(l));
      tabs.append(tab);
    }
    tabs.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      const next = step ? (layer + step[0] + step[1] + layers) % layers
        : { Home: 0, End: layers - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      select(next);
      tabs.children[next].focus();
    });
    place.append(element("p", { "aria-hidden": "true" }, "Layer"), tabs, panel);
    select(layers - 1);
  };
})();
