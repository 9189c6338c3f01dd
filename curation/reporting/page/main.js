// The page as a whole: the state of the thresholds, and what is drawn again when one moves.

class App {
  constructor(data) {
    this.data = data;
    this.model = modelOf(data);
    this.own = settingsOf(this.model);
    this.settings = [...this.own];
    this.base = this.now = decide(this.model, this.own);
    this.shown = data.shown.map((column) => ({ ...column, values: unpack(column.values) }));
    this.storedDuplicateOf = unpack(data.duplicate_of);
    this.waiting = false;
    this.gallery = new Gallery(this);
    this.histograms = this.makeHistograms();
    this.map = new EmbeddingMap(this);
  }

  makeHistograms() {
    const { model } = this;
    const recordOf = new Int32Array(model.starts[model.rows]);
    for (let row = 0; row < model.rows; row += 1) recordOf.fill(row, model.starts[row], model.starts[row + 1]);
    const cut = model.columns.map((column, at) => {
      const cuts = model.thresholds.flatMap((threshold, i) => (threshold.column === at ? [i] : []));
      return new Histogram(this, column.name, column.values, column.captions ? recordOf : null, cuts);
    });
    const names = new Set(model.columns.map((column) => column.name));
    const others = this.shown.filter((column) => !names.has(column.name));
    byId("histograms").append(...cut.map((each) => each.node));
    const more = others.map((column) => new Histogram(this, column.name, column.values, null, []));
    byId("otherscores").append(...more.map((each) => each.node));
    byId("others").hidden = !more.length;
    return [...cut, ...more];
  }

  /** Move a threshold; everything is drawn again with the next frame. */
  move(i, setting) {
    if (!Number.isFinite(setting) || this.settings[i] === setting) return;
    this.settings[i] = setting;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.update();
    });
  }

  isMoved() {
    return this.settings.some((setting, i) => setting !== this.own[i]);
  }

  /** The decision with only some of the moved thresholds. */
  alone(some) {
    const settings = this.own.map((setting, i) => (some.includes(i) ? this.settings[i] : setting));
    return decide(this.model, settings);
  }

  /** Which record stayed in whose place: the run's finding, or under moved thresholds the page's own. */
  duplicateOf() {
    return this.model.after.inexact || this.now === this.base ? this.storedDuplicateOf : this.now.duplicateOf;
  }

  update() {
    this.now = this.isMoved() ? decide(this.model, this.settings) : this.base;
    this.tellCounts();
    this.funnel();
    this.lines();
    this.histograms.forEach((histogram) => histogram.update());
    this.gallery.update();
    this.map.update();
  }

  tellCounts() {
    const { now, base, model } = this;
    const inexact = model.after.inexact;
    const moved = this.isMoved();
    const stage = inexact ? "left after the gates" : "kept";
    const text = moved
      ? `${count(base.kept)} → ${count(now.kept)} ${stage} (${change(now.kept - base.kept)})`
      : `${count(now.kept)} of ${count(model.rows)} ${stage}`;
    byId("count").textContent = text;
    byId("reset").hidden = !moved;
    byId("inexact").textContent = inexact
      ? `Counts under moved thresholds are before duplicates, caps and the sample: ${inexact}. \`curate select\` gives what these leave.`
      : "";
    const missing = [...now.missing].map(([name, n]) => `${count(n)} by ${name}`).join(", ");
    byId("missing").hidden = !missing;
    byId("missing").textContent = missing
      ? `Under these thresholds records reach stages that never scored them: ${missing} would need scoring, which \`curate run\` does for just these. They are not counted as kept here.`
      : "";
  }

  /** The stages' order, with what lies before and behind them. */
  order() {
    const before = ["source", "read", "decode", "worker"];
    const names = this.model.gates.map((gate) => gate.stage);
    return [...before, ...names, "encode", "duplicates", "caps", "sample"];
  }

  /** [key, words, records now, records with the manifest's thresholds], in the order in which records meet them. */
  steps() {
    const { now, base } = this;
    const order = this.order();
    const steps = new Map();
    for (const [decision, at] of [[base, 3], [now, 2]]) {
      const counts = decision.counts();
      decision.reasons.forEach((words, i) => {
        if (!i) return;
        const step = steps.get(decision.keys[i]) || [decision.keys[i], words, 0, 0];
        step[1] = words;
        step[at] = counts[i];
        steps.set(decision.keys[i], step);
      });
    }
    const place = ([, [, stage]]) => (order.includes(stage) ? order.indexOf(stage) : order.length);
    return [...steps.values()].sort((a, b) => place(a) - place(b));
  }

  funnel() {
    const { now, base, model } = this;
    let left = model.rows;
    const rows = [this.funnelRow(null, "Source", "", left, left, null)];
    for (const [key, [kind, stage, reason], count_, before] of this.steps()) {
      left -= count_;
      rows.push(this.funnelRow(key, `${kind} at ${stage}`, reason, left, count_, before));
    }
    rows.push(this.funnelRow("kept", model.after.inexact ? "Left after the gates" : "Kept", "", left, now.kept, base.kept, true));
    byId("funnel").replaceChildren(...rows);
  }

  funnelRow(key, title, reason, left, n, before, isKept = false) {
    const whole = this.model.rows;
    const differs = before !== null && before !== n ? el("span", { class: "was" }, ` (was ${count(before)})`) : null;
    const number = key === null || isKept ? count(n) : `−${count(n)}`;
    const words = [el("b", {}, title), reason ? " " : null, reason ? el("code", {}, own(reason)) : null];
    const show = () => {
      this.gallery.choose(key);
      byId("gallery").scrollIntoView({ behavior: "smooth" });
      this.gallery.select.focus({ preventScroll: true });
    };
    const name = key === null ? el("span", {}, words) : el("button", { type: "button", class: "link", onclick: show, title: "Show its pictures" }, words);
    const label = `${count(left)} records left, ${share(left, whole)}`;
    return el("tr", { class: isKept ? "total" : null }, el("td", {}, name), el("td", { class: "n" }, number, differs), el("td", { class: "n" }, share(n, whole)), el("td", { class: "n" }, count(left)), el("td", { class: "wide" }, bar(left, whole, null, label)));
  }

  /** The manifest's lines with the moved thresholds, each with its effect, and the command that decides so. */
  lines() {
    const moved = this.settings.flatMap((setting, i) => (setting === this.own[i] ? [] : [i]));
    const names = [...new Set(moved.map((i) => this.model.thresholds[i].line))];
    byId("paste").hidden = !names.length;
    const lines = names.filter((name) => name.startsWith("score.")).map((name) => this.scoreLine(name));
    const selects = Object.keys(this.model.texts).filter((name) => name.startsWith("select."));
    if (names.some((name) => name.startsWith("select."))) {
      lines.push("select:", `  keep: [${selects.map((name) => JSON.stringify(lineText(this.model, name, this.settings))).join(", ")}]`);
    }
    const score = lines.length && names.some((name) => name.startsWith("score.")) ? ["score:"] : [];
    byId("lines").textContent = [...score, ...lines].join("\n");
    byId("command").textContent = `curate select DIR ${names.map((name) => this.option(name)).join(" ")}`;
    const effects = moved.map((i) => {
      const alone = this.alone([i]);
      const threshold = this.model.thresholds[i];
      return el("li", {}, el("code", {}, `${threshold.name} ${operatorOf(threshold)} ${written(threshold, this.settings[i])}`), ` alone: ${count(alone.kept)} (${change(alone.kept - this.base.kept)})`);
    });
    if (moved.length > 1) effects.push(el("li", {}, `All of them together: ${count(this.now.kept)} (${change(this.now.kept - this.base.kept)})`));
    byId("effects").replaceChildren(...effects);
  }

  scoreLine(name) {
    const { key, after } = this.data.lines[name] || { key: name.slice(6), after: "" };
    return `  - ${key}: {keep: ${JSON.stringify(lineText(this.model, name, this.settings))}${after}}`;
  }

  option(name) {
    const text = lineText(this.model, name, this.settings);
    const path = name.startsWith("score.") ? `${name}.keep` : name;
    return `--set '${path}=${JSON.stringify(text).replaceAll("'", "'\\''")}'`;
  }

  /** How many records the page decides differently from the stored decision with the manifest's own thresholds. */
  differing() {
    const fates = unpack(this.data.fates);
    const later = new Set(["duplicates", "caps", "sample"]);
    let differ = 0;
    fates.forEach((fate, row) => {
      let stored = this.data.reasons[fate];
      if (this.model.after.inexact && later.has(stored[1])) stored = ["kept", "", ""];
      const mine = this.base.reasons[this.base.fate[row]];
      if (stored.some((word, i) => word !== mine[i])) differ += 1;
    });
    return differ;
  }
}

function start() {
  const data = JSON.parse(byId("data").textContent);
  const app = new App(data);
  byId("name").append(own(data.name));
  const totals = { kept: 0, dropped: 0, quarantined: 0 };
  data.totals.forEach(([decision, , , n]) => (totals[decision] += n));
  byId("totals").textContent = `${count(data.records)} records: ${count(totals.kept)} kept, ${count(totals.dropped)} dropped, ${count(totals.quarantined)} quarantined.`;
  const notices = [...data.notices];
  const differ = app.differing();
  if (differ) notices.push(`With the manifest's own thresholds the page decides ${count(differ)} records differently from the stored decision, which may be older than the manifest. What \`curate select\` gives is what holds.`);
  byId("notices").append(...notices.map((notice) => el("p", { class: "notice", role: "status" }, own(notice))));
  byId("reset").addEventListener("click", () => {
    app.settings = [...app.own];
    app.update();
  });
  if (!app.model.thresholds.length) byId("histograms").append(el("p", { class: "soft" }, "The manifest has no threshold that compares a number."));
  showCorpus(data);
  showReconstructions(app);
  app.update();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.map.update());
  // for the console: what the page would keep under other settings, in the order of its thresholds
  globalThis.curationReport = { app, decide: (settings) => decide(app.model, settings) };
}

start();
