// The words of a text beside an image: look at a word and see its patches, at a patch and see its words.
// Data of interaction_view in interaction.py: {values, a matrix [tokens, words] for each text, words, texts, cosine, prefix}
// and what photoMap takes.

drawers.words = (place, data) => {
  const matrices = data.values.map(decode);
  const [tokens] = matrices[0].shape;
  const before = tokens - data.grid[0] * data.grid[1];
  const map = photoMap(data, () => update());
  const choice = textChoice(data.texts, () => { word.kept = word.shown = null; spell(); update(); });
  const parts = partsTable();
  const word = { kept: null, shown: null }; // The second is under the pointer or the focus, over the one that is kept.
  const current = () => word.shown ?? word.kept;

  /** What a token and a word of a text add together; all words, or all patches, where one is null. */
  function added(t, patch, w) {
    const { shape: [, words], values } = matrices[t];
    const [first, last] = patch === null ? [before, tokens] : [before + patch, before + patch + 1];
    return sum(values, words, first, last, w);
  }
  function sum(values, words, first, last, w) {
    let found = 0;
    for (let n = first; n < last; n++) {
      if (w !== null) found += values[n * words + w];
      else for (let each = 0; each < words; each++) found += values[n * words + each];
    }
    return found;
  }

  // ---------------------------------------------------------------- words
  const list = element("div", { class: "cl-spelt", role: "group",
    "aria-label": "The words of the text. Arrow keys move over them, Enter keeps one, Escape lets it go." });
  const scale = scaleBar(scaleColours(-1, 1, data.colours), "");
  const title = element("span", { class: "cl-spelt-of" });
  let buttons = [];
  function spell() {
    const t = choice.chosen();
    title.textContent = `words of “${data.texts[t]}”`;
    buttons = data.words[t].map((text, w) => {
      const button = element("button", { type: "button", class: "cl-word", tabindex: w ? "-1" : "0" },
        element("span", {}, text), element("span", { class: "cl-word-number" }));
      if (data.nothing[t][w]) button.classList.add("cl-nothing");
      button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") look(w); });
      button.addEventListener("pointerleave", () => look(null));
      button.addEventListener("focus", () => look(w));
      button.addEventListener("blur", () => look(null));
      button.addEventListener("click", () => { word.kept = word.kept === w ? null : w; look(null); });
      return button;
    });
    list.replaceChildren(...buttons);
  }
  function look(w) { word.shown = w; update(); }
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === "Escape") { word.kept = null; look(null); return; }
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + buttons.length) % buttons.length;
    buttons.forEach((button, w) => { button.tabIndex = w === next ? 0 : -1; });
    buttons[next].focus();
  });

  // ---------------------------------------------------------------- what is shown
  const readout = element("p", { class: "cl-readout", role: "status" });
  /** So many places that the greatest shows two digits; four at least, as of a cosine. */
  const places = (greatest) => greatest <= 1e-9 ? 4 : Math.min(8, Math.max(4, 1 - Math.floor(Math.log10(greatest))));
  const spelt = (w) => `“${data.words[choice.chosen()][w]}”`;

  function colourWords(byWord) {
    const limit = greatestOf(byWord), digits = places(limit);
    scale.show([short(-limit), "0", short(limit)],
      `added by a word ${map.patch() === null ? "with all patches" : "with this patch"} (cosine), on a scale of its own`);
    buttons.forEach((button, w) => {
      const nothing = data.nothing[choice.chosen()][w], relative = byWord[w] / limit;
      button.style.background = nothing ? "" : scaleColours(relative, relative, data.colours);
      const number = nothing ? "0" : signed(byWord[w], digits);
      button.lastChild.textContent = number;
      button.setAttribute("aria-label", `${spelt(w)} adds ${number}`);
      button.setAttribute("aria-pressed", String(w === word.kept));
      button.classList.toggle("cl-looked", w === current());
    });
  }

  /** Which of the values is the greatest in size, with its number. */
  const most = (values, name) => {
    const limit = greatestOf(values), at = Math.max(0, values.findIndex((value) => Math.abs(value) === limit));
    return `${name(at)} (${signed(values[at], places(limit))})`;
  };
  function tell(byToken, byWord) {
    const t = choice.chosen(), patch = map.patch(), w = current();
    const of = Array.from(byToken).slice(before);
    const at = (value, values) => signed(value, places(greatestOf(values)));
    if (patch === null) {
      const added_ = w === null ? added(t, null, null) : byWord[w];
      const most_ = w === null ? `; above all by ${most(byWord, spelt)} and in ${most(of, map.where)}` : `, above all in ${most(of, map.where)}`;
      const prefix = before && w !== null ? `; ${data.prefix} and ${spelt(w)} ${at(prefixSum(t, w), byWord)}` : "";
      readout.textContent = `Patches and ${w === null ? "words" : spelt(w)} add ${at(added_, byWord)} (cosine)${most_}${prefix}.`;
    } else if (w === null) {
      readout.textContent = `The patch in ${map.where(patch)} adds ${at(of[patch], of)} (cosine), above all with ${most(byWord, spelt)}.`;
    } else readout.textContent = `The patch in ${map.where(patch)} and ${spelt(w)} add ${at(byWord[w], byWord)} (cosine).`;
  }
  const prefixSum = (t, w) => sum(matrices[t].values, matrices[t].shape[1], 0, before, w);

  function update() {
    const t = choice.chosen(), words = matrices[t].shape[1];
    const byToken = Float64Array.from({ length: tokens }, (_, n) => sum(matrices[t].values, words, n, n + 1, current()));
    const byWord = Array.from({ length: words }, (_, w) => added(t, map.patch(), w));
    map.paint(byToken);
    colourWords(byWord);
    choice.show(data.cosine, `of which by ${map.patch() === null ? "patches" : "this patch"} and words`,
      data.texts.map((_, each) => added(each, map.patch(), null)));
    const ofPatches = added(t, null, null), ofPrefix = prefixSum(t, null);
    parts.show(`“${data.texts[t]}”`, data.cosine[t], [["of which by patches and words, all heads", ofPatches],
      ...(before ? [[`by ${data.prefix} and words, all heads`, ofPrefix]] : []),
      ["by MLPs and constants, of image or text", data.cosine[t] - ofPatches - ofPrefix]]);
    tell(byToken, byWord);
  }

  const help = element("p", { class: "cl-soft" },
    "Point at a word and see its patches, at a patch and see its words; click keeps it. Under a word stands what it adds ",
    "with the patches. Orange adds to the cosine, purple takes away from it; what adds nothing is clear. ",
    "What stands in brackets is no part of the text.");
  place.classList.add("cl-patch-text");
  place.append(element("div", { class: "cl-columns" },
    element("div", { class: "cl-left" }, map.node, map.legend),
    element("div", { class: "cl-side" }, element("div", { class: "cl-heads-title" }, title), list, scale.node, readout,
      ...choice.nodes, parts.node)), help);
  spell();
  update();
};
