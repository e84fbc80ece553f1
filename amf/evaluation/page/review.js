// The gallery: what is shown in which order, its cards, and how keys move through it.

const CHUNK = 60;  // cards made at a time: thousands of figures cost nothing until they are scrolled to
const MARKS = {atypical: "▲", normal: "●"};
let shown = [], cards = new Map(), rendered = 0, current = 0;

const valueOf = (id, otherwise) => $(id) ? $(id).value : otherwise;  // a blind page has fewer controls
const threshold = () => Number(valueOf("threshold", DATA.threshold));
const classOf = figure => figure.confidence >= threshold() ? "atypical" : "normal";
const logit = p => { const q = Math.min(Math.max(p, 1e-9), 1 - 1e-9); return Math.log(q / (1 - q)); };
function say(text) { $("status").textContent = text; }

const nameOf = figure => {
  const where = figure.x === null ? figure.image : `${figure.slide} at ${figure.x}, ${figure.y}`;
  return where + (figure.page === null ? "" : ` page ${figure.page}`);
};

function select() {
  const wanted = {class: valueOf("class", ""), slide: $("slide").value, voted: $("voted").value};
  const from = Number(valueOf("from", 0)), to = Number(valueOf("to", 1));
  shown = figures.filter(figure => {
    const given = votes[figure.key];
    if (wanted.class && classOf(figure) !== wanted.class) return false;
    if (wanted.slide && figure.slide !== wanted.slide) return false;
    if (wanted.voted === "no" && given) return false;
    if (wanted.voted === "yes" && !given) return false;
    if (wanted.voted === "other" && (!given || given.vote === "unsure" || given.vote === classOf(figure))) return false;
    return figure.confidence >= from && figure.confidence <= to;
  });
  const middle = logit(threshold());
  const near = figure => Math.abs(logit(figure.confidence) - middle);
  const orders = {
    none: () => 0, down: (a, b) => b.confidence - a.confidence, up: (a, b) => a.confidence - b.confidence, near: (a, b) => near(a) - near(b),
  };
  const order = orders[valueOf("order", "none")];
  shown.sort((a, b) => order(a, b) || a.number - b.number);
  shown.forEach((figure, at) => { figure.at = at; });
}

function refresh() {
  select();
  cards.clear();
  rendered = 0;
  const next = shown.findIndex(figure => !votes[figure.key]);
  current = DATA.blind && next > 0 ? next : 0;  // a blind reading goes on where it ended
  $("gallery").replaceChildren();
  grow(current + CHUNK);
  const card = mark();
  if (current) card.scrollIntoView({block: "nearest"});
  progress();
  say(`${shown.length} of ${figures.length} figures shown.`);
}

const near = new IntersectionObserver(entries => { if (entries.some(entry => entry.isIntersecting)) grow(); }, {rootMargin: "1200px"});

function grow(until = rendered + CHUNK) {
  const end = Math.min(until, shown.length);
  const fragment = document.createDocumentFragment();
  for (; rendered < end; rendered++) fragment.append(cardOf(shown[rendered]));
  $("gallery").append(fragment);
  near.unobserve($("more"));  // watched anew, it reports again where the new cards left the end still in reach
  if (rendered < shown.length) near.observe($("more"));
}

// ---- cards

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const image = (className, data) => element("img", {className, src: `data:image/webp;base64,${data}`, alt: "", decoding: "async"});

function cardOf(figure) {
  const card = element("div", {className: "card", tabIndex: -1});
  card.setAttribute("role", "group");
  const pictures = element("div", {className: figure.um > 32 ? "pictures around" : "pictures"}, image("picture", figure.picture));
  if (figure.map) pictures.append(image("map", figure.map));
  pictures.append(element("div", {className: "scale", textContent: "10 µm"}));
  const buttons = element("div", {className: "votes"});
  for (const word of WORDS) {
    const button = element("button", {type: "button", tabIndex: -1, textContent: {atypical: "Atypical", normal: "Normal", unsure: "?"}[word]});
    button.dataset.vote = word;
    button.setAttribute("aria-label", `Vote ${word}`);
    button.addEventListener("click", () => { go(figure.at); vote(figure, word); });
    buttons.append(button);
  }
  card.append(pictures, element("div", {className: "answer"}), element("div", {className: "place", textContent: nameOf(figure)}),
    element("div", {className: "said"}), buttons);
  card.addEventListener("focus", () => { if (shown[current] !== figure) { current = figure.at; mark(); } });
  cards.set(figure.number, card);
  update(figure);
  return element("li", {}, card);
}

function update(figure) {
  const card = cards.get(figure.number);
  if (!card) return;
  const given = votes[figure.key], secret = hidden(figure), answer = secret ? "" : classOf(figure);
  const p = figure.confidence.toFixed(3), line = card.querySelector(".answer");
  line.textContent = secret ? "Not shown before your vote" : `${MARKS[answer]} ${answer} ${p}${answer === figure.model ? "" : " (changed)"}`;
  line.className = `answer ${answer}`;
  card.classList.toggle("hidden", secret);
  card.querySelector(".said").textContent = given ? `Vote: ${given.vote}` : "No vote";
  for (const button of card.querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(Boolean(given) && given.vote === button.dataset.vote));
  card.setAttribute("aria-label", `Figure ${figure.at + 1} of ${shown.length}, ${nameOf(figure)}: ` +
    (secret ? "the model's answer is hidden" : `model ${answer}, P(atypical) ${p}`) + `, your vote ${given ? given.vote : "none"}`);
}

function changeThreshold() {
  const text = threshold().toFixed(3);
  let up = 0, down = 0;
  for (const figure of figures) if (classOf(figure) !== figure.model) figure.model === "normal" ? up++ : down++;
  $("threshold").setAttribute("aria-valuetext", text);
  if (document.activeElement !== $("cut")) $("cut").value = text;
  $("change").textContent = `Threshold ${text} (the model's own: ${DATA.threshold.toFixed(3)}): ` +
    `${up + down} of ${figures.length} figures change class, ${up} to atypical, ${down} to normal.`;
  for (const number of cards.keys()) update(figures[number]);
}

// ---- moving

function mark() {
  for (const card of document.querySelectorAll(".card.current")) {
    card.classList.remove("current");
    card.tabIndex = -1;
    for (const button of card.querySelectorAll("button")) button.tabIndex = -1;
  }
  const card = shown[current] && cards.get(shown[current].number);
  if (!card) return null;
  card.classList.add("current");
  card.tabIndex = 0;
  for (const button of card.querySelectorAll("button")) button.tabIndex = 0;
  return card;
}

function go(at) {
  if (!shown.length) return;
  current = Math.min(Math.max(at, 0), shown.length - 1);
  if (current >= rendered) grow(current + CHUNK);
  const card = mark();
  card.focus({preventScroll: true});
  card.scrollIntoView({block: "nearest"});
}

const columns = () => getComputedStyle($("gallery")).gridTemplateColumns.split(" ").length;

function press(event) {
  if (event.ctrlKey && event.key === "z" && !event.target.matches("input:not([type=range])")) { event.preventDefault(); return undo(); }
  if (event.key === "Escape" && event.target.matches("input, select, summary, button")) return go(current);
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select")) return;
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -Infinity, End: Infinity};
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in steps) go(document.activeElement.closest(".card") ? current + steps[key] : current);
  else if (key in KEYS && shown.length) { vote(shown[current], KEYS[key]); go(current + 1); }
  else if (key === "z") undo();
  else if (key === "m" && $("maps")) $("maps").click();
  else if (key === "s" && $("wide")) $("wide").click();
  else return;
  event.preventDefault();
}

// ---- start

function toggle(id) {
  if (!$(id)) return;
  $(id).addEventListener("change", () => {
    document.body.classList.toggle(id, $(id).checked);
    const card = mark();
    if (card) card.scrollIntoView({block: "nearest"});
  });
}

const slides = new Set(figures.map(figure => figure.slide).filter(slide => slide !== null));
for (const slide of slides) $("slide").append(element("option", {value: slide, textContent: slide}));
for (const id of ["order", "class", "slide", "voted", "from", "to"]) if ($(id)) $(id).addEventListener("change", refresh);
if ($("threshold")) {
  $("threshold").value = DATA.threshold;
  $("threshold").addEventListener("input", changeThreshold);
  $("cut").addEventListener("input", () => { $("threshold").value = $("cut").value; changeThreshold(); });
  for (const id of ["threshold", "cut"])
    $(id).addEventListener("change", () => { changeThreshold(); if ($("class").value || $("order").value === "near") refresh(); });
}
toggle("wide");
toggle("maps");
$("expert").addEventListener("change", setExpert);
$("undo").addEventListener("click", undo);
$("download").addEventListener("click", download);
$("load").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => { const [file] = $("file").files; if (file) take(await file.text()); $("file").value = ""; });
document.addEventListener("keydown", press);
addEventListener("beforeprint", () => {
  grow(shown.length);
  $("printed").textContent = `Votes of ${expertName() || "nobody named"}, printed ${new Date().toLocaleString()}. ${$("count").textContent}.`;
});
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${$("bar").offsetHeight}px`)).observe($("bar"));
$("controls").open = !matchMedia("(max-width: 700px), (max-height: 500px)").matches;
try { $("expert").value = localStorage.getItem("amf-review expert") || ""; } catch {}
previousExpert = expertName();
if (!load(previousExpert)) votes = corrections();
refresh();
if ($("threshold")) changeThreshold();
