"use strict";
// The votes: kept in this browser by page and expert, downloaded as CSV, loaded again from it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const KEYS = {a: "atypical", n: "normal", u: "unsure"};
const WORDS = Object.values(KEYS);
const COLUMNS = ["image", "page", "id", "slide", "x", "y", "class", "confidence", "vote", "expert", "time", "blind"];
const figures = DATA.figures.map((figure, number) => ({
  ...figure, number, key: JSON.stringify([figure.image, figure.page, figure.id]), model: figure.predicted ? "atypical" : "normal",
}));

let votes = {};  // key of a figure -> {vote, time, blind}
let seen = {};   // keys of figures whose answer was shown, in blind reading
let past = [];   // what undo takes back
let previousExpert = "";

const $ = id => document.getElementById(id);
const expertName = () => $("expert").value.trim();
const place = expert => `amf-review ${DATA.id} ${expert}`;
const hidden = figure => DATA.blind && !seen[figure.key];

// Classes that an expert corrected before the page was made are votes of whoever names himself first.
function corrections() {
  const corrected = figures.filter(figure => figure.vote !== null);
  return Object.fromEntries(corrected.map(figure => [figure.key, {vote: WORDS[1 - figure.vote], time: DATA.time, blind: false}]));
}

function load(expert) {
  votes = {};
  seen = {};
  past = [];
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(place(expert))); } catch {}
  if (kept) ({votes, seen} = kept);
  return Boolean(kept);
}

function keep() {
  try {
    localStorage.setItem(place(expertName()), JSON.stringify({votes, seen}));
    localStorage.setItem("amf-review expert", expertName());
  } catch {
    say("This browser keeps no votes for this page: download them before you close it.");
  }
}

function setExpert() {
  const nameless = previousExpert ? null : {votes, seen};
  const known = load(expertName());
  // Votes given before the name was typed belong to it, unless it has votes already.
  if (nameless && !known) {
    ({votes, seen} = nameless);
    try { localStorage.removeItem(place("")); } catch {}
  }
  previousExpert = expertName();
  keep();
  refresh();
}

function vote(figure, word) {
  past.push({figure, before: votes[figure.key]});
  votes[figure.key] = {vote: word, time: new Date().toISOString(), blind: hidden(figure)};
  if (DATA.blind) seen[figure.key] = true;
  keep();
  update(figure);
  progress();
  say(`${nameOf(figure)}: ${word}.`);
}

function undo() {
  const last = past.pop();
  if (!last) return say("Nothing to undo.");
  const {figure, before} = last;
  if (before) votes[figure.key] = before; else delete votes[figure.key];
  keep();
  update(figure);
  progress();
  if (shown.includes(figure)) go(figure.at);
  say(`Undone: ${nameOf(figure)}.`);
}

// Half of the pauses between the last votes are shorter than the middle one; long ones are no reading.
function minutesLeft(left) {
  const times = figures.flatMap(figure => votes[figure.key] ? [Date.parse(votes[figure.key].time)] : []).sort((a, b) => a - b).slice(-50);
  const pauses = times.slice(1).map((time, k) => time - times[k]).filter(pause => pause > 0 && pause < 300000).sort((a, b) => a - b);
  return pauses.length < 3 ? null : Math.ceil(left * pauses[pauses.length >> 1] / 60000);
}

function progress() {
  const done = figures.filter(figure => votes[figure.key]).length, minutes = minutesLeft(figures.length - done);
  $("done").value = done;
  $("count").textContent = `${done} of ${figures.length} voted` + (minutes && done < figures.length ? `, about ${minutes} min left` : "");
}

// ---- files

const cell = value => value === null ? "" : /[",\n\r]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;

function asCsv(expert) {
  const rows = figures.filter(figure => votes[figure.key]).map(figure => {
    const given = votes[figure.key];
    const own = {...figure, class: figure.model, ...given, expert, blind: given.blind ? "yes" : "no"};
    return COLUMNS.map(column => cell(own[column])).join(",");
  });
  return [COLUMNS.join(","), ...rows].join("\n") + "\n";
}

function download() {
  const expert = expertName();
  if (!expert) { $("controls").open = true; $("expert").focus(); return say("Type your name first: it goes into the file."); }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asCsv(expert)], {type: "text/csv"}));
  link.download = `review-${expert.replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${$("done").value} votes downloaded.`);
}

function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, bare, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? bare : quoted.replaceAll('""', '"'));
    if (end !== ",") rows.push([]);
  }
  const [names, ...others] = rows.filter(row => row.join(""));
  return others.map(row => Object.fromEntries(names.map((name, k) => [name.replace("\uFEFF", ""), row[k] ?? ""])));
}

// Votes of one expert; of two on one figure the later one holds.
function take(text) {
  const rows = parseCsv(text), experts = new Set(rows.map(row => row.expert));
  const whole = rows.every(row => row.image && WORDS.includes(row.vote) && row.expert && !isNaN(Date.parse(row.time)));
  if (!rows.length || !whole || experts.size !== 1)
    return say("This file is not the votes of one expert as this page downloads them: nothing was loaded.");
  if (!experts.has(expertName())) {
    $("expert").value = rows[0].expert;
    setExpert();
  }
  const known = new Map(figures.map(figure => [figure.key, figure]));
  let loaded = 0, older = 0, elsewhere = 0;
  for (const row of rows) {
    const key = JSON.stringify([row.image, row.page === "" ? null : Number(row.page), row.id ?? ""]);
    if (!known.has(key)) elsewhere++;
    else if (votes[key] && Date.parse(votes[key].time) >= Date.parse(row.time)) older++;
    else {
      votes[key] = {vote: row.vote, time: row.time, blind: row.blind === "yes"};
      if (DATA.blind) seen[key] = true;
      loaded++;
    }
  }
  keep();
  refresh();
  say(`${loaded} votes of ${expertName()} loaded; ${older} were here already, ${elsewhere} are of figures that this page does not show.`);
}
