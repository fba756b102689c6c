"use strict";
// Draws one dialogue. Whatever a model or an attacker wrote becomes a text node, never markup.

const WELL_FORMED = /^\s*<thinking>([\s\S]*?)<\/thinking>\s*<answer>([\s\S]*?)<\/answer>\s*$/;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "tone") made.dataset.tone = value;
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

// The text with every hit of the query in a <mark>.
function marked(text, query) {
  const lower = text.toLowerCase();
  const found = document.createDocumentFragment();
  let from = 0;
  if (query && lower.length === text.length) { // some letters change length with case: no marks then
    for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
      found.append(text.slice(from, at), element("mark", {}, text.slice(at, at + query.length)));
      from = at + query.length;
    }
  }
  found.append(text.slice(from));
  return found;
}

function strip(tones) {
  const label = `from -3 (harmful) to 3, by turn: ${[...tones].map(toneText).join(", ")}`;
  const made = element("span", { className: "strip" }, ...[...tones].map((tone) => element("b", { tone }, toneText(tone))));
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

const toneText = (tone) => (tone === "-" ? "?" : String(Number(tone) - 3));

function completionNode(text, query) {
  const parts = WELL_FORMED.exec(text);
  const made = element("div", { className: "says assistant" });
  if (!parts) made.append(marked(text || "(nothing)", query));
  else made.append(element("div", { className: "thinking", title: "thinking" }, marked(parts[1], query)), marked(parts[2], query));
  return made;
}

function pictureNode([uri, place]) {
  const caption = element("figcaption", {}, typeof place === "string" ? `not shown: ${place}` : uri);
  if (typeof place === "string") return element("figure", {}, caption);
  return element("figure", {}, element("img", { src: picture(place), alt: `picture ${uri}` }), caption);
}

function turnNode(turn, number, tone, pictures, query) {
  const scores = turn.scores.map(([label, value], at) =>
    element("span", at === 0 ? { tone } : {}, `${label} `, element("b", {}, value)));
  return element("section", { className: "turn", tone },
    element("h4", {}, [`Turn ${number}`, turn.about].filter(Boolean).join(" · ")),
    ...(turn.pictures.length ? [element("div", { className: "shown" }, ...turn.pictures.map((at) => pictureNode(pictures[at])))] : []),
    element("div", { className: "says user" }, marked(turn.user, query)),
    completionNode(turn.assistant, query),
    element("div", { className: "scores" }, ...scores),
    ...(turn.verdict ? [element("p", { className: "verdict" }, "verdict: ", marked(turn.verdict, query))] : []));
}

// The dialogue as nodes: buttons, heading, facts, the same scenario's other dialogues, turns.
function dialogueNodes(facts, dialogue, address, moves, others, pictures, query) {
  return [
    element("nav", { className: "moves", ariaLabel: "Dialogues in the list" }, ...moves),
    element("h3", {}, element("a", { href: address, title: "link to this dialogue" }, marked(facts.scenario, query))),
    element("p", { className: "legend-text" },
      [facts.policy, facts.kind, facts.subset, facts.outcome, dialogue.note].filter(Boolean).join(" · ")),
    ...(others.length > 1 ? [element("div", { className: "others", role: "group", ariaLabel: "The same scenario" }, ...others)] : []),
    ...dialogue.turns.map((turn, at) => turnNode(turn, at + 1, facts.tones[at], pictures, query)),
  ];
}
