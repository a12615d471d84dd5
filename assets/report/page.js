'use strict';
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;
  all('.tools, .controls, .filter, .choice, .toggles .note').forEach((element) => { element.hidden = false; });

  // Theme: the system's until a choice is made.
  const theme = document.getElementById('theme');
  const show = () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    theme.setAttribute('aria-pressed', String(dark));
    return dark;
  };
  try { const kept = localStorage.getItem('exalign-theme'); if (kept) root.dataset.theme = kept; } catch { /* no storage */ }
  show();
  theme.addEventListener('click', () => {
    root.dataset.theme = show() ? 'light' : 'dark';
    show();
    try { localStorage.setItem('exalign-theme', root.dataset.theme); } catch { /* no storage */ }
  });

  document.getElementById('save').addEventListener('click', () => {
    const json = JSON.stringify(JSON.parse(document.getElementById('report-json').textContent), null, 2);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([json], { type: 'application/json' }));
    link.download = 'report.json';
    link.click();
    URL.revokeObjectURL(link.href);
  });

  // The titles of marks, at once and where the pointer is.
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  for (const mark of all('.mark')) {
    const title = mark.querySelector('title');
    const text = title.textContent;
    title.remove();
    mark.addEventListener('pointermove', (event) => {
      tip.textContent = text;
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
      tip.style.top = `${event.clientY - height - 12 > 0 ? event.clientY - height - 12 : event.clientY + 18}px`;
    });
    mark.addEventListener('pointerleave', () => { tip.hidden = true; });
  }

  // A legend shows and hides what it names; pointed at, it dims the rest.
  for (const legend of all('figure > .toggles')) {
    const buttons = all('.toggle', legend);
    const pictures = all('svg.frontier', legend.parentElement);
    const parts = (button) => pictures.flatMap((picture) => all(`[data-track="${button.dataset.track}"]`, picture));
    const press = (button, on) => {
      button.setAttribute('aria-pressed', String(on));
      parts(button).forEach((part) => part.classList.toggle('off', !on));
    };
    const light = (button, on) => {
      pictures.forEach((picture) => picture.classList.toggle('lit', on));
      parts(button).forEach((part) => part.classList.toggle('lit', on));
    };
    for (const button of buttons) {
      button.addEventListener('click', (event) => {
        if (event.shiftKey) buttons.forEach((other) => press(other, other === button));
        else press(button, button.getAttribute('aria-pressed') !== 'true');
      });
      for (const [name, on] of [['pointerenter', true], ['focus', true], ['pointerleave', false], ['blur', false]]) {
        button.addEventListener(name, () => light(button, on));
      }
    }
    all('.every', legend).forEach((every) => every.addEventListener('click', () => buttons.forEach((button) => press(button, true))));
  }

  // What was searched for, marked where the browser can.
  const mark = (browser, wanted) => {
    if (!window.Highlight || !CSS.highlights) return;
    const ranges = [];
    const walker = document.createTreeWalker(browser, NodeFilter.SHOW_TEXT);
    while (wanted && walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      // A letter whose lower case is longer would shift the places.
      if (text.length !== walker.currentNode.data.length) continue;
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + wanted.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set('found', new Highlight(...ranges));
  };

  // Samples: one prompt at a time, those that match the search; some policies of many.
  for (const browser of all('.browser')) {
    const [previous] = all('.previous', browser), [next] = all('.next', browser);
    const [search] = all('input', browser), [position] = all('.position', browser);
    const samples = all('.sample', browser);
    const texts = (sample) => [...all('.prompt', sample), ...all('.text', sample)];
    let found = samples, at = 0;
    const update = () => {
      samples.forEach((sample) => { sample.hidden = sample !== found[at]; });
      position.textContent = found.length ? `${at + 1} of ${found.length}` : 'nothing found';
      previous.disabled = at <= 0;
      next.disabled = at >= found.length - 1;
      const wanted = search.value.toLowerCase();
      if (!found[at]) return;
      // A folded text opens where the search found something in it.
      if (wanted) all('.rest', found[at]).forEach((rest) => { rest.open ||= rest.textContent.toLowerCase().includes(wanted); });
      mark(found[at], wanted);
    };
    const move = (by) => { at = Math.max(0, Math.min(found.length - 1, at + by)); update(); };
    previous.addEventListener('click', () => move(-1));
    next.addEventListener('click', () => move(1));
    search.addEventListener('input', () => {
      const wanted = search.value.toLowerCase();
      found = samples.filter((sample) => texts(sample).some((text) => text.textContent.toLowerCase().includes(wanted)));
      at = 0;
      update();
    });
    for (const button of all('.choice .toggle', browser)) {
      const show = (on) => {
        button.setAttribute('aria-pressed', String(on));
        all(`.column[data-column="${button.dataset.column}"]`, browser).forEach((column) => { column.hidden = !on; });
      };
      show(button.getAttribute('aria-pressed') === 'true');
      button.addEventListener('click', () => show(button.getAttribute('aria-pressed') !== 'true'));
    }
    document.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const { activeElement: active } = document;
      if (!by || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      if (active.matches('input') || active.matches('.scroll')) return;
      const { top, bottom } = browser.getBoundingClientRect();
      const seen = top < innerHeight * 0.8 && bottom > innerHeight * 0.2;
      if (browser.contains(active) || (seen && !active.closest('.browser'))) { event.preventDefault(); move(by); }
    });
    update();
  }

  for (const settings of all('.settings')) {
    const [input] = all('input', settings), rows = all('tbody tr', settings);
    input.addEventListener('input', () => {
      const wanted = input.value.toLowerCase();
      rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    });
  }
})();
