// Fetches what changed twice a second and puts it into the page as text.
'use strict';

const $ = (id) => document.getElementById(id);
const tags = {
  bold: 'b', italic: 'i', underline: 'u', strikethrough: 's', code: 'code', pre: 'pre', blockquote: 'blockquote',
  spoiler: 'span',
};
const chats = new Map();
let after = 0;
let first = true;
let shownClock = null;
let lastClock = null;

// Only an answer tells whether there is a message.
const waiting = {
  empty: 'No message yet. The first one appears here.',
  lost: 'No connection to Flightbell. Trying again…',
};

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Two chats may have the same name, so the id stands beside it.
function chat(id, names) {
  if (chats.has(id)) return chats.get(id);
  const name = names[id] ?? `Chat ${id}`;
  const card = element('section', 'chat');
  card.setAttribute('aria-label', name);
  const title = element('h2');
  title.append(element('span', 'face', [...name][0]?.toUpperCase() ?? '?'));
  const who = element('span', 'who', name);
  who.append(element('small', '', `chat ${id}`));
  title.append(who);
  const messages = element('div', 'messages');
  messages.tabIndex = 0;
  card.append(title, messages);
  $('waiting')?.remove();
  $('chats').append(card);
  chats.set(id, messages);
  return messages;
}

// Entities are either nested or apart, and come outer first.
function rich(text, entities, from, to) {
  const made = document.createDocumentFragment();
  let at = from;
  for (let index = 0; index < entities.length; index += 1) {
    const entity = entities[index];
    const end = entity.offset + entity.length;
    if (entity.offset < at) continue;
    made.append(text.slice(at, entity.offset));
    let marked = element(tags[entity.type] ?? 'span', entity.type === 'spoiler' ? 'spoiler' : '');
    if (entity.type === 'text_link' && /^https?:/.test(entity.url ?? '')) {
      marked = element('a');
      marked.href = entity.url;
      marked.rel = 'noreferrer';
    }
    const inner = entities.slice(index + 1).filter((other) => other.offset + other.length <= end);
    marked.append(rich(text, inner, entity.offset, end));
    made.append(marked);
    at = end;
  }
  made.append(text.slice(at, to));
  return made;
}

function show(message, names) {
  const messages = chat(message.chat_id, names);
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
  const bubble = element('article', first ? 'message' : 'message new');
  bubble.dataset.message = message.message_id;
  const text = element('p');
  text.append(rich(message.text, message.entities, 0, message.text.length));
  const time = element('time', '', `${message.clock_at.slice(11, 16)} UTC`);
  time.dateTime = message.clock_at;
  time.title = `sent ${new Date(message.sent_at).toLocaleString()}`;
  bubble.append(text, time);
  messages.append(bubble);
  if (atEnd) messages.scrollTop = messages.scrollHeight;
}

function tick() {
  if (!shownClock?.span) return;
  const now = shownClock.clock + (performance.now() - shownClock.fetched) * shownClock.speed;
  const [begin, end] = shownClock.span;
  const text = new Date(now).toISOString();
  $('clock').textContent = `${text.slice(11, 19)} UTC`;
  $('clock').dateTime = text;
  $('progress').value = Math.min(1, Math.max(0, (now - begin) / (end - begin)));
}

function sayWaiting(words) {
  const shown = $('waiting');
  if (shown && shown.textContent !== words) shown.textContent = words;
}

function frame(answer) {
  // A clock that went back is another replay's, whose messages are counted anew.
  const clock = Date.parse(answer.clock);
  if (answer.span && lastClock !== null && clock < lastClock) {
    location.reload();
    return;
  }
  lastClock = clock;
  document.body.classList.remove('lost');
  sayWaiting(waiting.empty);
  shownClock = {
    clock: Date.parse(answer.clock), fetched: performance.now(), speed: answer.speed, span: answer.span?.map(Date.parse),
  };
  $('note').textContent = answer.note;
  $('note').className = answer.ended ? 'ended' : '';
  if (answer.span) {
    const day = new Date(answer.clock).toLocaleDateString('en-GB', { dateStyle: 'long', timeZone: 'UTC' });
    $('clock-note').textContent = `${day} on the replay's clock, ${answer.speed} times as fast`;
    $('clock-box').hidden = $('progress').hidden = false;
  }
  if (first && answer.recordings.length > 0) {
    for (const recording of answer.recordings) {
      const item = element('li', '', recording.what);
      item.append(element('small', '', recording.credit));
      $('credits').append(item);
    }
    $('recordings').hidden = false;
    $('recordings').open = window.innerWidth > 600;
  }
}

async function fetchNews() {
  try {
    const response = await fetch(`/api/chats?after=${after}`, { signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(response.statusText);
    const answer = await response.json();
    frame(answer);
    for (const message of answer.messages) {
      show(message, answer.chat_names);
      after = message.order;
    }
    first = false;
  } catch (error) {
    // Before the first answer there was no connection, which the middle of the page says.
    $('note').textContent = first ? '' : 'The connection to Flightbell is lost: it has been stopped, or starts again. Trying again…';
    $('note').className = 'lost';
    document.body.classList.add('lost');
    sayWaiting(waiting.lost);
    shownClock = null;
  }
  setTimeout(fetchNews, 500);
}

setInterval(tick, 100);
fetchNews();
