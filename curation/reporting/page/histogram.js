// One card for each score: its histogram, and where the manifest cuts it a threshold that can be dragged.

const BINS = 48;
const [WIDTH, TOP, BASE, HEIGHT] = [640, 16, 132, 150];

/** Bars over the middle 99 % of the values and the thresholds; the outermost also count what lies beyond. */
function scaleOf(values, marks) {
  const known = Float64Array.from(values.filter((value) => Number.isFinite(value))).sort();
  if (!known.length) return null;
  const at = (part) => known[Math.min(known.length - 1, Math.round(part * (known.length - 1)))];
  const edges = [at(0.005), at(0.995), ...marks.filter(Number.isFinite)];
  const margin = (Math.max(...edges) - Math.min(...edges) || 1) / 40;
  const whole = known.every(Number.isInteger);
  const [low, high] = [Math.min(...edges) - margin, Math.max(...edges) + margin];
  return { low, high, step: whole ? 1 : niceStep((high - low) / 400), whole };
}

/** 1, 2 or 5 times a power of ten, not more than about `size`. */
function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return [5, 2, 1].map((factor) => factor * power).find((step) => step <= size * 1.0001) || power;
}

function snapped(value, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return Number((Math.round(value / step) * step).toFixed(Math.min(digits, 20)));
}

class Histogram {
  /** `cuts` are places of thresholds; `ofCaptions` gives each value's record where there is one for each caption. */
  constructor(app, name, values, recordOf, cuts) {
    Object.assign(this, { app, name, values, recordOf, cuts });
    this.scale = scaleOf(Array.from(values), cuts.map((i) => app.base.numbers[i]));
    this.bars = svg("g");
    this.marks = cuts.map((i) => this.mark(i));
    this.effect = el("p", { class: "effect" });
    this.node = this.card();
    this.update();
  }

  card() {
    const unit = this.recordOf ? "captions" : "records";
    const known = this.values.reduce((n, value) => n + (Number.isNaN(value) ? 0 : 1), 0);
    const head = el("h3", {}, this.name);
    if (!this.scale) {
      return el("article", { class: "card" }, head, el("p", { class: "soft" }, "No record has a value of this score."));
    }
    const { low, high } = this.scale;
    const chart = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "group", "aria-label": `Histogram of ${this.name}` },
      this.bars,
      svg("text", { x: 0, y: HEIGHT - 2 }, short(low)),
      svg("text", { x: WIDTH, y: HEIGHT - 2, "text-anchor": "end" }, short(high)),
      this.marks.map((mark) => mark.group),
    );
    this.chart = chart;
    const controls = this.marks.map((mark) => mark.control);
    return el("article", { class: "card" }, head, el("p", { class: "soft" }, `${count(known)} ${unit} have a value.`), chart, controls, this.cuts.length ? this.effect : null);
  }

  mark(i) {
    const threshold = this.app.model.thresholds[i];
    const label = `Threshold of ${threshold.name} at ${threshold.stage}`;
    const line = svg("line", { class: "cut", y1: 6, y2: BASE });
    const knob = svg("circle", { class: "knob", cy: 10, r: 8 });
    const tag = svg("text", { class: "cutname", y: 14 });
    const group = svg("g", { class: "handle", tabindex: 0, role: "slider", "aria-label": label }, line, knob, tag);
    const was = svg("line", { class: "was", y1: 22, y2: BASE });
    const percent = threshold.percent !== null;
    const number = el("input", { type: "number", step: "any", "aria-label": `${label}, exact value` });
    number.addEventListener("change", () => number.value !== "" && this.app.move(i, Number(number.value)));
    const reset = el("button", { type: "button", class: "small", onclick: () => this.app.move(i, this.app.own[i]) }, "Reset");
    const control = el("p", { class: "control" }, el("code", {}, `${threshold.stage}: ${threshold.name} ${operatorOf(threshold)} `), percent ? "p" : null, number, " ", reset);
    if (threshold.start < 0) {
      number.disabled = true;
      return { i, group: svg("g", {}, line, tag), line, knob, tag, was, control, number, reset };
    }
    group.addEventListener("keydown", (event) => this.key(event, i));
    group.addEventListener("pointerdown", (event) => this.drag(event, i, group));
    return { i, group: svg("g", {}, was, group), slider: group, line, knob, tag, was, control, number, reset };
  }

  x(value) {
    return ((value - this.scale.low) / (this.scale.high - this.scale.low)) * WIDTH;
  }

  /** What a setting is for a place on the axis: the number, or the percentile of the values at the gate. */
  settingAt(i, value) {
    const threshold = this.app.model.thresholds[i];
    if (threshold.percent === null) return snapped(value, this.scale.step);
    const known = Array.from(this.values).filter((each) => !Number.isNaN(each));
    const below = known.filter((each) => each < value).length;
    return Math.max(0, Math.min(100, Math.round((100 * below) / Math.max(known.length, 1))));
  }

  drag(event, i, group) {
    event.preventDefault();
    group.focus();
    group.setPointerCapture(event.pointerId);
    const move = (at) => {
      const box = this.chart.getBoundingClientRect();
      const part = Math.max(0, Math.min(1, (at.clientX - box.left) / box.width));
      this.app.move(i, this.settingAt(i, this.scale.low + part * (this.scale.high - this.scale.low)));
    };
    const end = () => {
      group.removeEventListener("pointermove", move);
      group.removeEventListener("pointerup", end);
      group.removeEventListener("pointercancel", end);
    };
    group.addEventListener("pointermove", move);
    group.addEventListener("pointerup", end);
    group.addEventListener("pointercancel", end);
  }

  key(event, i) {
    const threshold = this.app.model.thresholds[i];
    const step = threshold.percent === null ? this.scale.step : 1;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (event.key === "Home") this.app.move(i, this.app.own[i]);
    else if (event.key in steps) this.app.move(i, this.bounded(threshold, snapped(this.app.settings[i] + steps[event.key] * step, step)));
    else return;
    event.preventDefault();
  }

  bounded(threshold, setting) {
    return threshold.percent === null ? setting : Math.max(0, Math.min(100, setting));
  }

  update() {
    if (!this.scale) return;
    this.drawBars();
    this.marks.forEach((mark) => this.place(mark));
    this.tell();
  }

  drawBars() {
    const { low, high } = this.scale;
    const every = new Int32Array(BINS);
    const kept = new Int32Array(BINS);
    const { fate } = this.app.now;
    this.values.forEach((value, i) => {
      if (Number.isNaN(value)) return;
      const bin = Math.max(0, Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS)));
      every[bin] += 1;
      if (fate[this.recordOf ? this.recordOf[i] : i] === 0) kept[bin] += 1;
    });
    const most = Math.max(...every, 1);
    const step = WIDTH / BINS;
    const rect = (bin, n, style) => svg("rect", { class: style, x: bin * step, y: BASE - (n / most) * (BASE - TOP), width: step - 1, height: (n / most) * (BASE - TOP) });
    const columns = Array.from(every, (n, bin) => {
      if (!n) return null;
      const from = short(low + (bin * (high - low)) / BINS);
      return svg("g", {}, svg("title", {}, `from ${from}: ${count(n)}, of them kept ${count(kept[bin])}`), rect(bin, n, "lost"), kept[bin] ? rect(bin, kept[bin], "kept") : null);
    });
    this.bars.replaceChildren(...columns.filter(Boolean));
  }

  place(mark) {
    const threshold = this.app.model.thresholds[mark.i];
    const setting = this.app.settings[mark.i];
    const number = this.app.now.numbers[mark.i];
    const x = Math.max(0, Math.min(WIDTH, Number.isFinite(number) ? this.x(number) : 0));
    const moved = setting !== this.app.own[mark.i];
    for (const line of [mark.line]) for (const end of ["x1", "x2"]) line.setAttribute(end, x);
    const before = this.app.base.numbers[mark.i];
    for (const end of ["x1", "x2"]) mark.was.setAttribute(end, Number.isFinite(before) ? this.x(before) : 0);
    mark.was.setAttribute("visibility", moved ? "visible" : "hidden");
    mark.knob.setAttribute("cx", x);
    mark.tag.setAttribute("x", x > WIDTH / 2 ? x - 13 : x + 13);
    mark.tag.setAttribute("text-anchor", x > WIDTH / 2 ? "end" : "start");
    const percent = threshold.percent !== null;
    mark.tag.textContent = percent ? `p${setting} = ${short(number)}` : String(setting);
    if (mark.slider) {
      const low = percent ? 0 : this.scale.low;
      mark.slider.setAttribute("aria-valuemin", low);
      mark.slider.setAttribute("aria-valuemax", percent ? 100 : this.scale.high);
      mark.slider.setAttribute("aria-valuenow", setting);
      mark.slider.setAttribute("aria-valuetext", `${mark.tag.textContent}, ${count(this.app.now.kept)} records kept`);
    }
    if (document.activeElement !== mark.number) mark.number.value = String(setting);
    mark.reset.hidden = !moved;
  }

  /** The effect of this card's thresholds by themselves, the others where the manifest has them. */
  tell() {
    const { app } = this;
    const moved = this.cuts.filter((i) => app.settings[i] !== app.own[i]);
    if (!moved.length) {
      this.effect.textContent = "";
      return;
    }
    const alone = app.alone(moved);
    this.effect.textContent = `By itself this change gives ${count(alone.kept)} kept records (${change(alone.kept - app.base.kept)}).`;
  }
}
