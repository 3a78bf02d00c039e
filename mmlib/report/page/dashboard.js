// Filters: a card is shown where it fits every choice and has every word.
const cards = [...document.querySelectorAll('article')];
const sections = [...document.querySelectorAll('section[data-paper]')];
const selects = [...document.querySelectorAll('[data-filter]')];
const search = document.getElementById('search');
const form = document.getElementById('filters');

function fits(card, words) {
  const chosen = selects.every((s) => !s.value || card.dataset[s.dataset.filter] === s.value);
  return chosen && words.every((word) => card.dataset.text.includes(word));
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    card.hidden = !fits(card, words);
    shown += !card.hidden;
  }
  for (const section of sections) {
    section.hidden = !section.querySelector('article:not([hidden])');
  }
  document.getElementById('shown').textContent = shown + ' of ' + cards.length + ' shown';
  document.getElementById('nothing').hidden = shown > 0;
}

form.addEventListener('input', filter);
form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('reset', () => setTimeout(filter));
filter();
