'use strict';
const page = JSON.parse(document.getElementById('numbers').textContent);
const root = document.documentElement;
const every = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const symbols = [['circle', '●'], ['diamond', '◆'], ['square', '■'], ['triangle-up', '▲'], ['x', '✖'], ['star', '★'], ['cross', '✚']];
const unknown = { symbol: 'circle-open', sign: '○' };
const touched = matchMedia('(pointer: coarse)');
// Pixels on paper, where half of the text's width is one plot's.
const paper = { narrow: { width: 312, height: 190 }, wide: { width: 655, height: 360 } };
let printing = false;

const style = name => getComputedStyle(root).getPropertyValue(name).trim();
const theme = () => style('--is-dark') === '1' ? 'dark' : 'light';
const color = number => page.colors[theme()][number % page.colors.light.length];

function make(parent, tag, words, className) {
  const made = parent.appendChild(document.createElement(tag));
  if (words) made.textContent = words;
  if (className) made.className = className;
  return made;
}

// Plots. What stands in a trace's meta says whose it is and which colour it has.
const drawn = new Map();
const boxes = every('[name=run]');
// Numbers of the runs that are switched on; null where there is one run and no switch.
const shown = () => boxes.length ? new Set(boxes.filter(box => box.checked).map(box => Number(box.value))) : null;

function dress(trace, runs) {
  const dressed = structuredClone(trace), meta = trace.meta;
  if (!meta) return dressed;
  const base = color(meta.color), points = trace.mode === 'markers' && trace.hoverinfo === 'skip';
  if (meta.band) dressed.fillcolor = base + page.colors.faint;
  dressed.line = { ...dressed.line, color: base };
  dressed.marker = { ...dressed.marker, color: points ? base + page.colors.pale : base };
  if (dressed.error_y) dressed.error_y.color = base;
  if (runs && Number.isInteger(meta.run)) dressed.visible = runs.has(meta.run);
  return dressed;
}

function lay(layout, plot) {
  const laid = structuredClone(layout), ink = style('--quiet'), line = style('--line');
  for (const axis of ['xaxis', 'yaxis']) {
    laid[axis] = { gridcolor: line, zerolinecolor: line, linecolor: line, ...laid[axis] };
  }
  const narrow = plot.closest('.plots') !== null;
  return { ...laid, font: { family: 'system-ui, sans-serif', size: 12, color: ink }, autosize: !printing,
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', dragmode: touched.matches ? false : 'zoom',
    hoverlabel: { bgcolor: style('--card'), bordercolor: line, font: { color: style('--ink') } },
    ...(printing ? narrow ? paper.narrow : paper.wide : {}) };
}

function draw(plot, figure = drawn.get(plot)) {
  drawn.set(plot, figure);
  const runs = shown();
  const laid = lay(figure.layout, plot);
  return Plotly.react(plot, figure.data.map(trace => dress(trace, runs)), laid, { displayModeBar: false, responsive: true });
}

function drawAll() {
  const runs = shown();
  for (const part of runs ? every('[data-run]') : []) part.hidden = !runs.has(Number(part.dataset.run));
  for (const plot of drawn.keys()) draw(plot);
  for (const map of maps) map.draw();
}

for (const plot of every('.plot[data-figure]')) draw(plot, page.figures[plot.dataset.figure]);
for (const select of every('select[data-draws]')) {
  select.addEventListener('change', () => draw(document.getElementById(select.dataset.draws), page.figures[select.value]));
}

// Reconstructions: one step at a time, and the first against the last.
for (const steps of every('.steps')) {
  const slider = steps.querySelector('input'), figures = every('figure', steps);
  const show = () => {
    figures.forEach((figure, index) => { figure.hidden = index !== Number(slider.value) });
    const words = Number(figures[slider.value].dataset.step).toLocaleString('en');
    steps.querySelector('output').textContent = words;
    slider.setAttribute('aria-valuetext', 'step ' + words);
  };
  slider.addEventListener('input', show);
  show();
}
for (const wipe of every('.wipe')) {
  const slider = wipe.querySelector('input'), both = wipe.querySelector('.both'), frame = both.parentElement;
  const pictures = every('.steps img', wipe.parentElement);
  for (const picture of [pictures[0], pictures[pictures.length - 1]]) both.append(picture.cloneNode());
  const show = () => {
    both.style.setProperty('--at', slider.value + '%');
    // On a telephone the picture is wider than its frame.
    frame.scrollLeft = both.clientWidth * slider.value / 100 - frame.clientWidth / 2;
  };
  const follow = event => {
    if (event.pointerType !== 'mouse' && event.type !== 'pointerdown') return;
    if (event.type === 'pointermove' && !event.buttons) return;
    const edge = both.getBoundingClientRect();
    slider.value = 100 * (event.clientX - edge.left) / edge.width;
    event.preventDefault();
    show();
  };
  for (const kind of ['pointerdown', 'pointermove']) both.addEventListener(kind, follow);
  slider.addEventListener('input', show);
  show();
}

// Maps of films.
function makeMap(holder) {
  const films = page.maps[holder.dataset.map], find = selector => holder.querySelector(selector);
  const plot = find('.plot'), which = find('.which'), layout = find('.layout'), coloring = find('.coloring');
  const slider = find('.chosen'), count = films.maps[0].colorings.concat(films.colorings)[0].codes.length;
  const map = () => films.maps[which ? which.value : 0];
  const colorings = () => [...films.colorings, ...map().colorings];

  function fill(select, names) {
    const kept = Math.max(select.selectedIndex, 0);
    select.replaceChildren();
    names.forEach((name, index) => { make(select, 'option', name).value = index });
    select.selectedIndex = Math.min(kept, names.length - 1);
  }

  function refill() {
    fill(layout, Object.keys(map().layouts));
    fill(coloring, colorings().map(each => each.name));
  }

  function paint() {
    const places = Object.values(map().layouts)[layout.value], { groups, codes } = colorings()[coloring.value];
    const kinds = [...groups.map((name, code) => ({ name, code })), { name: 'not known', code: -1 }];
    const legend = find('.legend'), traces = [];
    legend.replaceChildren();
    // What is not known lies under everything else.
    for (const { name, code } of [kinds[kinds.length - 1], ...kinds.slice(0, -1)]) {
      const rows = codes.flatMap((each, row) => each === code ? [row] : []);
      if (!rows.length) continue;
      const [symbol, sign] = code < 0 ? [unknown.symbol, unknown.sign] : symbols[code % symbols.length];
      const base = code < 0 ? style('--quiet') : color(code);
      traces.push({ type: 'scatter', mode: 'markers', hoverinfo: 'none', x: rows.map(row => places[row][0]),
        y: rows.map(row => places[row][1]), customdata: rows, marker: { symbol, size: 7, color: base, opacity: .8 } });
      const entry = make(legend, 'li');
      const mark = make(entry, 'b', sign);
      mark.setAttribute('aria-hidden', 'true');
      mark.style.color = base;
      entry.append(name + ' ' + rows.length.toLocaleString('en'));
    }
    traces.push(ring(places));
    const axis = { showticklabels: false, showgrid: false, showline: false, zeroline: false, ticks: '' };
    const laid = lay({ height: touched.matches || innerWidth < 760 ? 340 : 500, showlegend: false, hovermode: 'closest',
      hoverdistance: 30, margin: { l: 8, r: 8, t: 8, b: 8 }, xaxis: { ...axis }, yaxis: { ...axis } }, plot);
    Plotly.react(plot, traces, laid, { displayModeBar: false, responsive: true });
  }

  // The chosen film, and around its neighbours.
  function ring(places) {
    const chosen = slider ? [Number(slider.value), ...(map().neighbours[slider.value] || [])] : [];
    return { type: 'scatter', mode: 'markers', hoverinfo: 'skip', x: chosen.map(row => places[row][0]),
      y: chosen.map(row => places[row][1]), marker: { symbol: 'circle-open', color: style('--frame'),
        size: chosen.map((_, index) => index ? 12 : 18), line: { width: 2.5 } } };
  }

  function picture(film, row) {
    const { columns, rows } = films.sheet, share = (place, of) => 100 * place / Math.max(of - 1, 1) + '%';
    film.style.setProperty('--x', share(row % columns, columns));
    film.style.setProperty('--y', share(Math.floor(row / columns), rows));
    film.setAttribute('aria-label', films.words[row]);
  }

  function tell() {
    if (!slider) return;
    const row = Number(slider.value), near = map().neighbours[row] || [];
    picture(find('.large'), row);
    find('.id').textContent = films.names[row];
    find('.words').textContent = films.words[row];
    find('.one-film output').textContent = (row + 1).toLocaleString('en') + ' of ' + films.names.length.toLocaleString('en');
    slider.setAttribute('aria-valuetext', films.names[row]);
    find('.near').hidden = !near.length;
    const list = find('.near ul');
    list.replaceChildren();
    near.forEach((other, index) => {
      const button = make(make(list, 'li'), 'button');
      button.type = 'button';
      picture(make(button, 'span', '', 'film'), other);
      button.firstChild.setAttribute('role', 'img');
      make(button, 'span', map().cosines[row][index].toFixed(2));
      button.addEventListener('click', () => choose(other));
    });
  }

  function choose(row) {
    if (!slider || Number(slider.value) === row) return;
    slider.value = row;
    tell();
    const { x, y, marker } = ring(Object.values(map().layouts)[layout.value]);
    Plotly.restyle(plot, { x: [x], y: [y], 'marker.size': [marker.size] }, [plot.data.length - 1]);
  }

  refill();
  paint();
  tell();
  for (const event of ['plotly_hover', 'plotly_click']) plot.on(event, at => choose(at.points[0].customdata));
  if (which) which.addEventListener('change', () => { refill(); paint(); tell() });
  for (const select of [layout, coloring]) select.addEventListener('change', paint);
  if (slider) {
    slider.addEventListener('input', () => {
      const row = slider.value;
      slider.value = row;
      tell();
      paint();
    });
  }
  return { draw: paint };
}
const maps = every('.map').map(makeMap);

// Colours of the page, runs that are shown, paper.
for (const radio of every('[name=theme]')) {
  radio.addEventListener('change', () => {
    if (radio.value === 'auto') delete root.dataset.theme; else root.dataset.theme = radio.value;
    drawAll();
  });
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
for (const box of boxes) box.addEventListener('change', drawAll);

let before;
addEventListener('beforeprint', () => {
  before = root.dataset.theme;
  root.dataset.theme = 'light';
  printing = true;
  for (const part of every('details.paper')) part.open = true;
  drawAll();
});
addEventListener('afterprint', () => {
  if (before) root.dataset.theme = before; else delete root.dataset.theme;
  printing = false;
  drawAll();
});
