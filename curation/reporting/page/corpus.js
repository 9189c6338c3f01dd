// The corpus as bars, what the run cost, and what was quarantined: nothing here changes with a threshold.

function chartOf(chart) {
  const most = Math.max(...chart.bars.map(([, every]) => every), 1);
  const rows = chart.bars.map(([label, every, kept]) =>
    el("tr", {}, el("th", { scope: "row" }, own(label)), el("td", {}, bar(every, most, kept, `${count(every)} records, ${count(kept)} kept`)), el("td", { class: "n" }, count(every)), el("td", { class: "n kepttext" }, count(kept))),
  );
  const note = chart.note ? el("p", { class: "soft" }, chart.note) : null;
  const head = el("tr", {}, el("th", {}, ""), el("th", {}, ""), el("th", { class: "n" }, "all"), el("th", { class: "n" }, "kept"));
  return el("article", { class: "card" }, el("h3", {}, chart.title), el("table", { class: "bars" }, head, ...rows), note);
}

function costOf(title, costs) {
  const entries = Object.entries(costs || {});
  if (!entries.length) return null;
  const most = Math.max(...entries.map(([, cost]) => cost.seconds || 0), 1e-9);
  const rows = entries.map(([name, cost]) => {
    const rate = cost.seconds && cost.records ? `${short(cost.records / cost.seconds)}/s` : "–";
    return el("tr", {}, el("th", { scope: "row" }, own(name)), el("td", {}, bar(cost.seconds || 0, most)), el("td", { class: "n" }, (cost.seconds || 0).toFixed(1)), el("td", { class: "n" }, count(cost.records || 0)), el("td", { class: "n" }, rate));
  });
  const head = el("tr", {}, ...["", "", "seconds", "records", "rate"].map((text, i) => el("th", i > 1 ? { class: "n" } : {}, text)));
  return el("article", { class: "card" }, el("h3", {}, title), el("table", { class: "bars" }, head, ...rows));
}

/** Originals beside what their latents decode to; those of unsafe records are left out. */
function showReconstructions(app) {
  const { data, gallery } = app;
  const rowOf = new Map(data.pictures.map((picture) => [picture.id, picture]));
  const shown = data.reconstructions.filter(({ id }) => !(rowOf.has(id) && gallery.unsafe[rowOf.get(id).row]));
  byId("reconstructionsection").hidden = !shown.length;
  byId("reconstructions").append(
    ...shown.map(({ id, psnr, data: jpeg }) => {
      const name = rowOf.get(id)?.key || id;
      return el("figure", {}, el("img", { alt: `Original and reconstruction of ${name}`, src: `data:image/jpeg;base64,${jpeg}` }), el("figcaption", {}, el("b", {}, `${psnr.toFixed(2)} dB`), " ", el("code", {}, own(name))));
    }),
  );
}

function showCorpus(data) {
  byId("corpus").append(...data.corpus.map(chartOf));
  const { phases, stages, engine, config_hash: hash } = data.account;
  const costs = [costOf("Phases", phases), costOf("Stages, summed over all workers", stages)].filter(Boolean);
  byId("cost").append(...(costs.length ? costs : [el("p", { class: "soft" }, "The run has no account of its time yet.")]));
  byId("costlines").append(...data.costs.map((line) => el("p", {}, own(line))));
  if (typeof engine === "string") byId("foot").append(own(`Engine: ${engine}. Manifest: ${String(hash)}.`));
  const examples = data.quarantined.map((each) =>
    el("article", {}, el("h3", {}, `${count(each.count)}: `, own(each.reason)), el("ul", {}, ...each.examples.map(([key, error]) => el("li", {}, el("code", {}, own(key)), " ", own(error))))),
  );
  byId("quarantined").append(...(examples.length ? examples : [el("p", { class: "soft" }, "No record was quarantined.")]));
}
