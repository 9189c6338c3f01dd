// The map of embeddings: each record a point, coloured by its decision or by a score; pointing at one shows its picture.

class EmbeddingMap {
  constructor(app) {
    this.app = app;
    const { map } = app.data;
    if (!map) {
      byId("mapsection").hidden = true;
      return;
    }
    this.rows = unpack(map.rows);
    this.places = this.placed(unpack(map.x), unpack(map.y));
    this.canvas = byId("map");
    this.colour = byId("colour");
    const scores = app.gallery.scores.filter((column) => column.values.some((value) => Number.isFinite(value)));
    this.colour.append(...scores.map((column, i) => el("option", { value: i }, column.name)));
    this.scores = scores;
    this.colour.addEventListener("change", () => this.update());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    byId("mapinfo").textContent = `${count(this.rows.length)} records. The two axes are the principal components of the embeddings; they hold ${(100 * map.share).toFixed(0)} % of the variance, so that records far apart here are different, and records side by side may still be.`;
    this.at = 0;
    new ResizeObserver(() => this.update()).observe(this.canvas);
  }

  /** Places in [0, 1], the middle 99 % of each axis filling it. */
  placed(x, y) {
    return [x, y].map((values) => {
      const sorted = Float64Array.from(values).sort();
      const [low, high] = [sorted[Math.floor(0.005 * sorted.length)], sorted[Math.ceil(0.995 * sorted.length) - 1]];
      return Float64Array.from(values, (value) => Math.max(0.01, Math.min(0.99, 0.03 + (0.94 * (value - low)) / (high - low || 1))));
    });
  }

  update() {
    if (!this.canvas) return;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const draw = this.canvas.getContext("2d");
    draw.scale(ratio, ratio);
    const paint = this.painter();
    const size = Math.max(1.5, Math.min(5, 120 / Math.sqrt(this.rows.length)));
    const order = range(this.rows.length).sort((a, b) => this.isKept(a) - this.isKept(b));
    for (const i of order) {
      draw.fillStyle = paint(this.rows[i]);
      draw.beginPath();
      draw.arc(this.places[0][i] * width, (1 - this.places[1][i]) * height, size, 0, 2 * Math.PI);
      draw.fill();
    }
  }

  isKept(i) {
    return this.app.now.fate[this.rows[i]] === 0 ? 1 : 0;
  }

  painter() {
    const style = getComputedStyle(document.documentElement);
    const [kept, lost] = ["--kept", "--lost"].map((name) => style.getPropertyValue(name));
    if (this.colour.value === "decision") {
      byId("legend").textContent = "Green: kept. Grey: dropped or quarantined.";
      return (row) => (this.app.now.fate[row] === 0 ? kept : lost);
    }
    const { values, name } = this.scores[Number(this.colour.value)];
    const known = Float64Array.from(values.filter((value) => Number.isFinite(value))).sort();
    const [low, high] = [known[Math.floor(0.02 * known.length)], known[Math.ceil(0.98 * known.length) - 1]];
    byId("legend").textContent = `${name}: blue ${short(low)} or less, yellow ${short(high)} or more; grey has no value.`;
    return (row) => {
      if (Number.isNaN(values[row])) return lost;
      const part = Math.max(0, Math.min(1, (values[row] - low) / (high - low || 1)));
      return `hsl(${240 - 190 * part} 75% ${40 + 15 * part}%)`;
    };
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    let [best, least] = [0, Infinity];
    this.rows.forEach((_, i) => {
      const apart = ((this.places[0][i] - x) * box.width) ** 2 + ((this.places[1][i] - y) * box.height) ** 2;
      if (apart < least) [best, least] = [i, apart];
    });
    if (least < 20 ** 2) this.show(best);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.show((this.at + step + this.rows.length) % this.rows.length);
  }

  show(i) {
    if (this.at === i && byId("pointed").firstChild) return;
    this.at = i;
    const picture = this.app.gallery.pictures.get(this.rows[i]);
    const shown = picture ? this.app.gallery.figure(picture) : el("p", { class: "soft" }, "This record's picture is not in the page.");
    byId("pointed").replaceChildren(shown);
  }
}
