// The texts to choose from, each with its cosine and what is looked at of it, and what adds up to the cosine of one.

/** A list of texts of which one is chosen, by pointer or arrow keys; `changed` is called when another is. */
function textChoice(texts, changed) {
  let chosen = 0;
  const list = element("div", { class: "cl-texts", role: "radiogroup", "aria-label": "Text" });
  const choose = (t) => { chosen = t; changed(); };
  const buttons = texts.map((text, t) => {
    const button = element("button", { type: "button", role: "radio", class: "cl-text" },
      element("span", { class: "cl-name" }, text), element("b", { class: "cl-number" }),
      element("span", { class: "cl-of" }), element("span", { class: "cl-number cl-added" }),
      element("span", { class: "cl-track", "aria-hidden": "true" }, element("i")));
    button.addEventListener("click", () => choose(t));
    list.append(button);
    return button;
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((chosen + step + texts.length) % texts.length);
    buttons[chosen].focus();
  });
  return {
    nodes: [element("div", { class: "cl-texts-title" }, element("span", {}, "text"), element("span", {}, "cosine")), list],
    chosen: () => chosen,
    /** Each text's cosine, what is looked at, and what that adds. */
    show(cosine, through, added) {
      const limit = greatestOf(added);
      buttons.forEach((button, t) => {
        button.setAttribute("aria-checked", String(t === chosen));
        button.tabIndex = t === chosen ? 0 : -1;
        button.querySelector("b").textContent = signed(cosine[t]);
        button.querySelector(".cl-of").textContent = through;
        button.querySelector(".cl-added").textContent = signed(added[t]);
        const length = 50 * Math.abs(added[t]) / limit;
        button.querySelector("i").style.cssText = `width:${length}%;left:${added[t] < 0 ? 50 - length : 50}%;` +
          `background:var(${added[t] < 0 ? "--minus" : "--plus"})`;
      });
    },
  };
}

/** A table of the cosine and of the parts that add up to it. */
function partsTable() {
  const node = element("table", { class: "cl-table cl-parts" });
  const row = (cell, [name, value]) => element("tr", {}, element(cell, { scope: cell === "th" ? "row" : null }, name),
    element(cell, {}, signed(value)));
  const show = (about, cosine, parts) => node.replaceChildren(element("caption", {}, about),
    element("thead", {}, row("th", ["cosine", cosine])), element("tbody", {}, ...parts.map((each) => row("td", each))));
  return { node, show };
}
