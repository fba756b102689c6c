"use strict";
// Unpacks what html.py packed: gzipped JSON in base64, one script element each.

const KEPT = 48; // blocks held in memory, the latest ones used
const blocks = new Map();

async function unpack(id) {
  const characters = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at); // Uint8Array.from takes 20 times as long
  const unzip = new DecompressionStream("gzip");
  const writer = unzip.writable.getWriter();
  writer.write(bytes);
  writer.close();
  return new Response(unzip.readable).json();
}

// The dialogues of a block. A search passes keep=false: it goes through all of them once.
async function block(number, keep = true) {
  const known = blocks.get(number);
  const dialogues = known ?? unpack(`block-${number}`);
  if (keep) {
    blocks.delete(number);
    blocks.set(number, dialogues);
    if (blocks.size > KEPT) blocks.delete(blocks.keys().next().value);
  }
  return dialogues;
}

const picture = (number) => document.getElementById(`picture-${number}`).textContent;
