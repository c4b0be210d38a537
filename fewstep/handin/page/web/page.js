// The page: it lists what is to be drawn, and a worker draws one image after the other.

const NEW_IMAGES = 8;
const SAME_IMAGES = 4;
const NFE_LIST = [1, 2, 4];

const element = (id) => document.getElementById(id);
const [form, seed, other, share] = ["controls", "seed", "other", "share"].map(element);
const canvasesOf = (id) => [...element(id).querySelectorAll("canvas")];
const evaluations = (nfe) => `${nfe} evaluation${nfe > 1 ? "s" : ""}`;
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const perImage = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms an image`;
const worker = new Worker("worker.js", { type: "module" });

// What is drawn; the fields may hold newer values.
const shown = { seed: 1, other: 2, nfe: 1 };
// Tasks {set, canvas, name, request}, the next one first. A set is what is drawn and timed together:
// {count, times, isCounted, whenDone}; `sets` has the newest of each name.
let waiting = [];
const sets = {};
let isWorking = false;

// Sends a message to the worker and returns its answer; never two at a time.
function ask(message) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.failure ? reject(new Error(data.failure)) : resolve(data));
    worker.onerror = () => reject(new Error("this browser cannot start the worker"));
    worker.postMessage(message);
  });
}

function fail(error) {
  element("failure").textContent = `This does not work: ${error.message}`;
  element("failure").hidden = false;
  element("status").textContent = "";
}

// Puts tasks before all others, in place of those of the same set that wait.
function draw(title, tasks, whenDone, isCounted = true) {
  const set = { count: tasks.length, times: [], isCounted, whenDone };
  waiting = [...tasks.map((task) => ({ ...task, set })),
    ...waiting.filter((task) => task.set !== sets[title])];
  sets[title] = set;
  for (const { canvas, name } of tasks) {
    canvas.setAttribute("aria-busy", "true");
    canvas.setAttribute("aria-label", `${name}, not drawn yet`);
  }
  work();
}

async function work() {
  if (isWorking) return;
  isWorking = true;
  await null; // all that one click asks for is listed first
  try {
    while (waiting.length) {
      showProgress();
      const task = waiting.shift();
      finish(task, await ask(task.request));
    }
    showProgress();
  } catch (error) {
    fail(error);
  }
  isWorking = false;
}

function finish({ set, canvas, name }, { pixels, milliseconds }) {
  const side = Math.sqrt(pixels.length / 4);
  [canvas.width, canvas.height] = [side, side];
  canvas.getContext("2d").putImageData(new ImageData(pixels, side, side), 0, 0);
  if (!Object.values(sets).includes(set)) return; // a newer image of this canvas waits
  canvas.setAttribute("aria-busy", "false");
  canvas.setAttribute("aria-label", name);
  set.times.push(milliseconds);
  if (set.times.length === set.count) set.whenDone(median(set.times));
}

function showProgress() {
  const counted = Object.values(sets).filter((set) => set.isCounted);
  const bar = element("progress");
  bar.max = counted.reduce((sum, set) => sum + set.count, 0);
  bar.value = counted.reduce((sum, set) => sum + set.times.length, 0);
  bar.hidden = bar.value === bar.max;
}

// Tasks for a row of canvases, which show the first images of the seed.
function firstImages(canvases, nfe) {
  return canvases.map((canvas, i) => ({
    canvas,
    request: { nfe, ends: [[shown.seed, i]] },
    name: `Image ${i + 1} of seed ${shown.seed}, ${evaluations(nfe)}`,
  }));
}

// What is listed last is drawn first.
function drawAll() {
  Object.assign(shown, { seed: Number(seed.value), nfe: Number(form.elements.nfe.value) });
  drawEnds();
  drawWalk();
  for (const nfe of [...NFE_LIST].reverse()) {
    const title = element(`same-${nfe}`);
    title.textContent = evaluations(nfe);
    draw(title.id, firstImages(canvasesOf(`row-${nfe}`), nfe), (time) => {
      title.textContent = `${evaluations(nfe)}: ${perImage(time)}`;
    });
  }
  const begun = { ...shown };
  element("status").textContent = "Drawing.";
  draw("new", firstImages(canvasesOf("new"), shown.nfe), (time) => {
    const what = `${NEW_IMAGES} images of ${evaluations(begun.nfe)} each, seed ${begun.seed}`;
    element("status").textContent = `${what}: ${perImage(time)}.`;
  });
}

function drawEnds() {
  shown.other = Number(other.value);
  const [first, , last] = canvasesOf("walk");
  const tasks = [[first, shown.seed], [last, shown.other]].map(([canvas, end]) => {
    canvas.nextSibling.textContent = `seed ${end}`;
    return {
      canvas,
      request: { nfe: shown.nfe, ends: [[end, 0]] },
      name: `End of the walk, image 1 of seed ${end}, ${evaluations(shown.nfe)}`,
    };
  });
  draw("ends", tasks, () => {}, false);
}

function drawWalk() {
  const [, canvas] = canvasesOf("walk");
  const percent = Number(share.value);
  const ends = [[shown.seed, 0], [shown.other, 0]];
  const name = `${percent} percent of the way from seed ${shown.seed} to seed ${shown.other}`;
  share.setAttribute("aria-valuetext", `${percent} percent`);
  canvas.nextSibling.textContent = `${percent} %`;
  const request = { nfe: shown.nfe, ends, share: percent / 100 };
  draw("walk", [{ canvas, request, name }], (time) => {
    element("walk-caption").textContent = `${evaluations(request.nfe)}: ${perImage(time)}`;
  }, false);
}

function addCanvases(row, count, isLabelled = false) {
  for (let i = 0; i < count; i += 1) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    figure.append(canvas);
    if (isLabelled) figure.append(document.createElement("figcaption"));
    row.append(figure);
  }
}

function layOut() {
  addCanvases(element("new"), NEW_IMAGES);
  addCanvases(element("walk"), 3, true);
  for (const nfe of NFE_LIST) {
    const [title, row] = ["h3", "div"].map((tag) => document.createElement(tag));
    [title.id, title.textContent] = [`same-${nfe}`, evaluations(nfe)];
    [row.id, row.className] = [`row-${nfe}`, "row"];
    addCanvases(row, SAME_IMAGES);
    element("same").append(title, row);
  }
}

function describe(about) {
  const least = Math.min(...Object.values(about.agreement));
  const facts = {
    Network: `${about.network}, ${about.parameters.toLocaleString("en")} parameters`,
    File: `${(about.bytes / 1e6).toFixed(1)} MB, ${about.weights} weights`,
    Images: `${about.shape[2]} × ${about.shape[1]} pixels`,
    Checked: `${Math.floor(1e4 * least) / 100} % of values within one grey level of PyTorch`,
  };
  for (const [key, value] of Object.entries(facts)) {
    const [term, description] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, description.textContent] = [key, value];
    element("about").append(term, description);
  }
}

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault(); // the browser has checked the seed
    drawAll();
  });
  for (const choice of form.elements.nfe) {
    choice.addEventListener("change", () => form.reportValidity() && drawAll());
  }
  element("another").addEventListener("click", () => {
    [seed.value] = crypto.getRandomValues(new Uint32Array(1));
    drawAll();
  });
  share.addEventListener("input", drawWalk);
  other.addEventListener("change", () => {
    if (!other.reportValidity()) return;
    drawEnds();
    drawWalk();
  });
  for (const control of document.querySelectorAll(":disabled")) control.disabled = false;
}

async function start() {
  layOut();
  const answer = await fetch("model.json", { cache: "no-cache" });
  if (!answer.ok) throw new Error(`model.json: ${answer.status} ${answer.statusText}`);
  const about = await answer.json();
  describe(about);
  await ask({ about });
  listen();
  drawAll();
}

start().catch(fail);
