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
  const shown = element("p", undefined, { dir: "auto" });
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

// A picture of one head, a row for each token that looks and a column for each that it looks at; below, the tokens:
// choose one to see where it looks.
function showAttention(into, found, chosen = { layer: 0, head: 0, token: 0 }) {
  const [layers, heads, length] = found.attention.shape;
  const bytes = Uint8Array.from(atob(found.attention.bytes), (each) => each.charCodeAt(0));
  const weight = (row, column) => bytes[((chosen.layer * heads + chosen.head) * length + row) * length + column];
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--towards").split(",").map(Number);
  chosen.layer = Math.min(chosen.layer, layers - 1);
  chosen.head = Math.min(chosen.head, heads - 1);
  chosen.token = Math.min(chosen.token, length - 1);
  const canvas = element("canvas", undefined, { width: length, height: length, role: "img" });
  const about = element("p", "", { class: "hint" });
  const tokens = element("div", undefined, { class: "tokens", role: "group", "aria-label": "tokens" });
  const of = element("p", undefined, { class: "hint" });
  for (const [name, count] of [["layer", layers], ["head", heads]]) {
    const select = element("select");
    select.append(...Array.from({ length: count }, (_, i) => element("option", i + 1, { value: i })));
    select.value = chosen[name];
    select.addEventListener("change", () => { chosen[name] = Number(select.value); update(); });
    const label = element("label", `${name === "layer" ? "Layer" : "Head"} `);
    label.append(select, " ");
    of.append(label);
  }

  function update() {
    const image = new ImageData(length, length);
    for (let i = 0; i < length * length; i++) {
      image.data.set([...ink, Math.sqrt(weight(Math.floor(i / length), i % length) / 255) * 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    const name = `Layer ${chosen.layer + 1}, head ${chosen.head + 1}`;
    canvas.setAttribute("aria-label", `${name}: each row is a token, each column one that it looks at`);
    about.textContent = `${name}: where \u201c${found.tokens[chosen.token]}\u201d looks`;
    tokens.querySelectorAll("button").forEach((button, i) => {
      const looks = weight(chosen.token, i) / 255;
      share(button, looks).setAttribute("aria-pressed", i === chosen.token);
      button.title = looks.toFixed(2);
    });
  }

  found.tokens.forEach((token, i) => {
    const button = element("button", token, { type: "button", dir: "auto" });
    button.addEventListener("click", () => { chosen.token = i; update(); });
    tokens.append(button);
  });
  const side = element("div");
  side.append(about, tokens);
  const map = element("div", undefined, { class: "map" });
  const picture = element("div");
  picture.append(canvas, element("p", "Rows look at columns; darker is more.", { class: "hint" }));
  map.append(picture, side);
  into.replaceChildren(of, map);
  update();
  return chosen;
}
