"use strict";
// What the page of the service and the file that `npdistil explain --format html` writes both show.

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function share(node, value) {
  node.style.setProperty("--share", Math.max(0, Math.min(1, value)));
  return node;
}

function showScores(into, labels) {
  into.replaceChildren(...labels.map(({ label, score }) => {
    const bar = element("div", undefined, { class: "bar" });
    bar.append(element("span", label), share(element("i"), score), element("b", score.toFixed(4)));
    return bar;
  }));
}

function signed(value) {
  return `${value >= 0 ? "+" : "\u2212"}${Math.abs(value).toFixed(3)}`;
}

// Each word on blue if it pushes towards the label, on orange if away from it, the stronger the more it does; and the
// same in numbers, for those who cannot see or tell the colours.
function showWords(into, about, found) {
  const most = Math.max(...found.words.map((word) => Math.abs(word.value)), 1e-9);
  const characters = Array.from(found.text); // the service counts characters, JavaScript counts half of some
  const shown = element("p");
  let last = 0;
  for (const word of found.words) {
    const mark = element("span", characters.slice(word.start, word.end).join(""), {
      class: word.value < 0 ? "word away" : "word",
      title: signed(word.value),
    });
    shown.append(characters.slice(last, word.start).join(""), share(mark, Math.abs(word.value) / most));
    last = word.end;
  }
  shown.append(characters.slice(last).join(""));
  const details = element("details");
  const body = element("tbody");
  for (const word of found.words) {
    const row = element("tr");
    row.append(element("td", word.text), element("td", signed(word.value), { class: "number" }));
    body.append(row);
  }
  const table = element("table");
  table.append(body);
  details.append(element("summary", "In numbers"), table);
  into.replaceChildren(shown, details);
  about.textContent = `Blue words push towards ${found.label}, orange ones away from it (log-odds ${found.log_odds.toFixed(2)}, without any word ${found.base.toFixed(2)}; ${found.method}).`;
}

// A small picture of each layer (row) and head (column); below, the tokens: choose one to see where it looks. The
// pictures are one stop for the Tab key; arrow keys go from one to the next.
function showAttention(into, found, chosen = { layer: 0, head: 0, token: 0 }) {
  const [layers, heads, length] = found.attention.shape;
  const bytes = Uint8Array.from(atob(found.attention.bytes), (each) => each.charCodeAt(0));
  const weight = (layer, head, row, column) => bytes[((layer * heads + head) * length + row) * length + column];
  chosen.layer = Math.min(chosen.layer, layers - 1);
  chosen.head = Math.min(chosen.head, heads - 1);
  chosen.token = Math.min(chosen.token, length - 1);
  const about = element("p", "", { class: "hint" });
  const maps = element("div", undefined, { class: "maps", role: "group", "aria-label": "layers and heads" });
  maps.style.setProperty("--heads", heads);
  const tokens = element("div", undefined, { class: "tokens", role: "group", "aria-label": "tokens" });
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--towards").split(",").map(Number);

  function update() {
    about.textContent = `Layer ${chosen.layer + 1}, head ${chosen.head + 1}: where “${found.tokens[chosen.token]}” looks`;
    maps.querySelectorAll("button").forEach((button, i) => {
      const pressed = i === chosen.layer * heads + chosen.head;
      button.setAttribute("aria-pressed", pressed);
      button.tabIndex = pressed ? 0 : -1;
    });
    tokens.querySelectorAll("button").forEach((button, i) => {
      const looks = weight(chosen.layer, chosen.head, chosen.token, i) / 255;
      share(button, looks).setAttribute("aria-pressed", i === chosen.token);
      button.title = looks.toFixed(2);
    });
  }

  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const button = element("button", undefined, { type: "button", "aria-label": `layer ${layer + 1}, head ${head + 1}` });
      const canvas = element("canvas", undefined, { width: length, height: length });
      const image = new ImageData(length, length);
      for (let i = 0; i < length * length; i++) {
        image.data.set([...ink, Math.sqrt(weight(layer, head, 0, i) / 255) * 255], 4 * i);
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
      button.append(canvas);
      button.addEventListener("click", () => { chosen.layer = layer; chosen.head = head; update(); });
      maps.append(button);
    }
  }
  found.tokens.forEach((token, i) => {
    const button = element("button", token, { type: "button" });
    button.addEventListener("click", () => { chosen.token = i; update(); });
    tokens.append(button);
  });
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  maps.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [down, right] = steps[event.key];
    chosen.layer = Math.max(0, Math.min(layers - 1, chosen.layer + down));
    chosen.head = Math.max(0, Math.min(heads - 1, chosen.head + right));
    update();
    maps.children[chosen.layer * heads + chosen.head].focus();
  });
  into.replaceChildren(maps, about, tokens);
  update();
  return chosen;
}
