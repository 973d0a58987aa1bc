// A photograph with a map on it. Its patches are chosen by mouse, by touch and by arrow keys.

/**
 * The photograph, what stands under it, and the patch that is looked at.
 * Of data: picture (null where there is none), name, grid, crop, unseen, smooth, colours.
 * `changed` is called whenever another patch is looked at.
 */
function photoMap({ picture, name, grid: [rows, columns], crop: box, unseen, smooth: isSmooth, colours }, changed) {
  let kept = null, shown = null; // The second is under the pointer or the keys, over the one that is kept.
  const canvas = element("canvas", { width: columns, height: rows, class: "cl-map" });
  const mark = element("i", { class: "cl-mark", hidden: "" });
  const crop = element("div", { class: "cl-crop" }, canvas, mark);
  const [left, top, width, height] = box;
  crop.style.cssText = `left:${left * 100}%;top:${top * 100}%;width:${width * 100}%;height:${height * 100}%`;
  const node = element("div", {
    class: "cl-photo", tabindex: "0", role: "application",
    "aria-label": "The image and its map. Arrow keys move over the patches, Enter keeps one, Escape lets it go.",
  }, ...(picture ? [element("img", { src: picture, alt: name })] : []), crop);
  if (unseen) node.classList.add("cl-unseen");
  if (!picture) {
    node.classList.add("cl-no-photo");
    node.style.aspectRatio = `${columns} / ${rows}`;
  }

  const scale = scaleBar(scaleColours(-1, 1, colours), "added by a patch (cosine), on a scale of this map’s own");
  const smooth = element("input", { type: "checkbox" });
  smooth.checked = isSmooth;
  const mapped = element("input", { type: "checkbox", checked: "" });
  const topics = element("ul", { class: "cl-topics", hidden: "" });
  const legend = element("div", { class: "cl-legend" }, scale.node, topics, element("label", {}, smooth, " smooth"));
  if (picture) legend.append(element("label", {}, mapped, " map"));
  if (unseen) legend.append(element("span", {}, "Faded: cropped away, not seen by the model."));
  const sharpen = () => { canvas.style.imageRendering = smooth.checked ? "auto" : "pixelated"; };
  smooth.addEventListener("change", sharpen);
  mapped.addEventListener("change", () => node.classList.toggle("cl-plain", !mapped.checked));
  sharpen();

  const patch = () => shown ?? kept;
  function look() {
    const at = patch();
    mark.hidden = at === null;
    if (at !== null) {
      mark.style.cssText = `left:${100 * (at % columns) / columns}%;top:${100 * Math.floor(at / columns) / rows}%;` +
        `width:${100 / columns}%;height:${100 / rows}%`;
    }
    changed();
  }
  function under(event) {
    const over = crop.getBoundingClientRect();
    const c = Math.floor((event.clientX - over.left) / over.width * columns);
    const r = Math.floor((event.clientY - over.top) / over.height * rows);
    return r >= 0 && r < rows && c >= 0 && c < columns ? r * columns + c : null;
  }
  node.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const at = under(event);
    if (at !== shown) { shown = at; look(); }
  });
  node.addEventListener("pointerleave", () => { shown = null; look(); });
  node.addEventListener("click", (event) => {
    const at = under(event);
    kept = at === kept ? null : at;
    shown = null;
    look();
  });
  node.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      event.preventDefault();
      const from = patch();
      const [r, c] = from === null ? [0, 0] : [Math.floor(from / columns) + step[0], from % columns + step[1]];
      shown = Math.min(rows - 1, Math.max(0, r)) * columns + Math.min(columns - 1, Math.max(0, c));
    } else if (event.key === "Enter") kept = shown;
    else if (event.key === "Escape") kept = shown = null;
    else return;
    look();
  });
  node.addEventListener("focusout", () => { shown = null; look(); });

  function fill(colour) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) image.data.set(colour(i), 4 * i);
    context.putImageData(image, 0, 0);
  }
  /** Whether patches have names instead of values, which have a scale and can be smooth. */
  function named(are) {
    topics.hidden = !are;
    scale.node.hidden = smooth.parentNode.hidden = are;
    if (are) canvas.style.imageRendering = "pixelated";
    else sharpen();
  }

  return {
    node, legend, patch,
    where: (i) => `row ${Math.floor(i / columns)}, column ${i % columns}`,
    /** Colours the patches by what each token adds, those before the patches first. */
    paint(byToken) {
      const before = byToken.length - rows * columns;
      // Patches that add next to nothing beside the class token stay pale.
      const limit = Math.max(greatestOf(byToken.slice(before)), greatestOf(byToken.slice(0, before)) / (rows * columns));
      fill((i) => overPhotograph(byToken[before + i] / limit, colours));
      scale.show([short(-limit), "0", short(limit)]);
      named(false);
    },
    /** Colours each patch by [red, green, blue], or null for nothing, with names and colours under the photograph. */
    paintNamed(byPatch, names) {
      fill((i) => byPatch[i] === null ? [0, 0, 0, 0] : [...byPatch[i], Math.round(255 * colours.opacity)]);
      topics.replaceChildren(...names.map(([name, colour]) => {
        const swatch = element("i", { "aria-hidden": "true" });
        if (colour !== null) {
          const over = `rgb(${colour.join(" ")} / ${colours.opacity})`;
          swatch.style.background = `linear-gradient(${over}, ${over}), #fff`;
        }
        return element("li", {}, swatch, element("span", {}, name));
      }));
      named(true);
    },
  };
}
