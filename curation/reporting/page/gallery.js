// Pictures by what became of them, 24 a page and more on demand.

const PAGE = 24;
const FRAME_MS = 250;

class Gallery {
  constructor(app) {
    this.app = app;
    this.pictures = new Map(app.data.pictures.map((picture) => [picture.row, picture]));
    this.unsafe = unpack(app.data.unsafe);
    this.opened = new Set();
    this.group = "kept";
    this.shown = PAGE;
    byId("partline").hidden = !app.data.pictures.some((picture) => picture.part);
    byId("part").addEventListener("change", () => this.update());
    this.select = byId("group");
    this.select.addEventListener("change", () => this.choose(this.select.value));
    byId("more").addEventListener("click", () => this.more());
    this.scores = [...app.model.columns.filter((column) => !column.captions), ...app.shown].filter(
      (column, i, all) => all.findIndex((other) => other.name === column.name) === i,
    );
  }

  choose(group) {
    this.group = group;
    this.shown = PAGE;
    this.update();
  }

  more() {
    const first = this.shown;
    this.shown += PAGE;
    this.update();
    byId("pictures").children[first]?.querySelector("button")?.focus();
  }

  /** [value, label, rows in order]. */
  groups() {
    const { now, base, model } = this.app;
    const rows = this.app.data.pictures.map((picture) => picture.row);
    const groups = [["kept", "Kept, at random", rows.filter((row) => now.fate[row] === 0)]];
    if (now !== base) {
      groups.push(["gained", "Kept only with the moved thresholds", rows.filter((row) => now.fate[row] === 0 && base.fate[row] !== 0)]);
      groups.push(["lost", "No longer kept with the moved thresholds", rows.filter((row) => now.fate[row] !== 0 && base.fate[row] === 0)]);
    }
    now.reasons.forEach(([kind, stage, reason], i) => {
      if (i) groups.push([now.keys[i], `${kind} at ${stage}: ${reason}`, rows.filter((row) => now.fate[row] === i)]);
    });
    model.thresholds.forEach((threshold, i) => {
      const column = model.columns[threshold.column];
      if (column.captions && !this.mainOf(threshold.name)) return;
      for (const [side, word] of [[1, "on the kept side of"], [-1, "on the dropped side of"]]) {
        groups.push([`near ${i} ${side}`, `Nearest ${word} ${threshold.name} ${operatorOf(threshold)} ${written(threshold, this.app.settings[i])}`, this.near(i, side)]);
      }
    });
    groups.push(["duplicates", "Duplicates, the kept one first", this.duplicates()]);
    return groups;
  }

  mainOf(name) {
    return this.scores.find((column) => column.name === name);
  }

  /** Records with a picture on one side of a threshold, the nearest first. */
  near(i, side) {
    const { model, now } = this.app;
    const threshold = model.thresholds[i];
    const column = model.columns[threshold.column];
    const values = column.captions ? this.mainOf(threshold.name).values : column.values;
    const number = now.numbers[i];
    const holds = COMPARE[operatorOf(threshold)];
    return this.app.data.pictures
      .map((picture) => picture.row)
      .filter((row) => !Number.isNaN(values[row]) && holds(values[row], number) === side > 0)
      .sort((a, b) => Math.abs(values[a] - number) - Math.abs(values[b] - number));
  }

  /** Groups one behind the other: the record that stayed, then those that fell to it. */
  duplicates() {
    const fellTo = this.app.duplicateOf();
    const groups = new Map();
    fellTo.forEach((keeper, row) => {
      if (keeper < 0 || !this.pictures.has(row)) return;
      if (!groups.has(keeper)) groups.set(keeper, this.pictures.has(keeper) ? [keeper] : []);
      groups.get(keeper).push(row);
    });
    return [...groups.values()].flat();
  }

  update() {
    const groups = this.groups();
    if (!groups.some(([value]) => value === this.group)) this.group = "kept";
    this.select.replaceChildren(...groups.map(([value, label, rows]) => el("option", { value, selected: value === this.group }, `${label} (${count(rows.length)})`)));
    this.select.value = this.group;
    const rows = groups.find(([value]) => value === this.group)[2];
    const some = rows.slice(0, this.shown);
    byId("pictures").replaceChildren(...some.map((row) => this.figure(this.pictures.get(row))));
    byId("more").hidden = rows.length <= this.shown;
    byId("more").textContent = `Show ${Math.min(PAGE, rows.length - this.shown)} more`;
    const all = this.total();
    const only = all > rows.length ? ` Of ${count(all)} such records, ${count(rows.length)} have their picture in this page.` : "";
    byId("galleryinfo").textContent = rows.length ? `Showing ${count(some.length)} of ${count(rows.length)}.${only}` : `No picture to show here.${only}`;
  }

  /** How many records the chosen group has, with or without a picture. */
  total() {
    const { now } = this.app;
    const i = this.group === "kept" ? 0 : now.keys.indexOf(this.group);
    return i < 0 ? 0 : now.counts()[i];
  }

  figure(picture) {
    const { now } = this.app;
    const row = picture.row;
    const fellTo = this.app.duplicateOf();
    const words = [el("div", { class: "caption" }, own(picture.caption || "(no caption)"))];
    if (picture.generated) words.push(el("div", { class: "caption soft" }, "Generated: ", own(picture.generated)));
    words.push(el("code", {}, own(picture.key)));
    words.push(el("div", { class: "soft" }, this.valuesOf(row)));
    const [kind, stage, reason] = now.reasons[now.fate[row]];
    const keeper = fellTo[row];
    const fate = kind === "kept" ? el("div", { class: "badge good" }, fellTo.includes(row) ? "kept, has duplicates" : "kept") : el("div", { class: "badge" }, `${kind} at ${stage}: `, own(reason));
    const of = keeper >= 0 && this.pictures.has(keeper) ? el("div", { class: "soft" }, "duplicate of ", own(this.pictures.get(keeper).key)) : null;
    return el("figure", {}, this.frame(picture), el("figcaption", {}, fate, of, words));
  }

  valuesOf(row) {
    return this.scores
      .filter((column) => !Number.isNaN(column.values[row]))
      .slice(0, 8)
      .map((column) => `${column.name} ${short(column.values[row])}`)
      .join(" · ");
  }

  /** The picture as a button: an unsafe one is blurred until it is pressed, a clip plays while it is pointed at. */
  frame(picture) {
    if (picture.problem) return el("div", { class: "nopicture" }, own(picture.problem));
    const blurred = this.unsafe[picture.row] && !this.opened.has(picture.row);
    const image = el("img", { alt: picture.caption || picture.key, src: `data:image/jpeg;base64,${picture.data}`, width: picture.width * picture.frames, height: picture.height });
    const name = `${blurred ? "Blurred picture, press to show it" : "Picture"}: ${picture.key}`;
    const button = el("button", { type: "button", class: blurred ? "frame blurred" : "frame", "aria-label": name }, image);
    button.style.width = `${picture.width}px`;
    button.addEventListener("click", () => {
      this.opened.add(picture.row);
      button.classList.remove("blurred");
      button.setAttribute("aria-label", `Picture: ${picture.key}`);
    });
    if (picture.part && byId("part").checked) button.append(this.part(picture));
    if (picture.frames > 1) this.play(button, image, picture);
    return button;
  }

  /** A shade over what is not encoded: borders, and what cropping to the bucket cuts off. */
  part(picture) {
    const [left, top, right, bottom] = picture.part.map((side) => `${100 * side}%`);
    const outline = el("span", { class: "part", "aria-hidden": "true" });
    outline.style.clipPath = `polygon(evenodd, 0 0, 100% 0, 100% 100%, 0 100%, 0 0, ${left} ${top}, ${right} ${top}, ${right} ${bottom}, ${left} ${bottom}, ${left} ${top})`;
    return outline;
  }

  play(button, image, picture) {
    let timer = 0;
    let frame = 0;
    const show = () => {
      image.style.transform = `translateX(${-frame * picture.width}px)`;
    };
    const start = () => {
      clearInterval(timer);
      timer = setInterval(() => {
        if (!button.isConnected) clearInterval(timer);
        frame = (frame + 1) % picture.frames;
        show();
      }, FRAME_MS);
    };
    const stop = () => {
      clearInterval(timer);
      frame = 0;
      show();
    };
    for (const name of ["mouseenter", "focus"]) button.addEventListener(name, start);
    for (const name of ["mouseleave", "blur"]) button.addEventListener(name, stop);
    button.append(el("span", { class: "clip", "aria-hidden": "true" }, "▶ clip"));
  }
}
