// The decision of `curate select`, made again from the page's own numbers under other thresholds. It follows
// curation/selection/select.py step by step; tests compare the two over the same records.

/** The page's JSON with its arrays unpacked. */
function modelOf(data) {
  const { model, errors, small, after } = data;
  const own = unpack(model.own);
  const every = unpack(model.captions);
  const starts = new Int32Array(own.length + 1);
  own.forEach((n, i) => {
    starts[i + 1] = starts[i] + every[i] + (n === 0 ? 1 : 0);
  });
  return {
    rows: data.rows,
    thresholds: model.thresholds,
    columns: model.columns.map((column) => ({ ...column, values: unpack(column.values) })),
    outcomes: model.outcomes.map(unpack),
    gates: model.gates.map((gate) => ({ ...gate, scored: gate.scored && unpack(gate.scored) })),
    texts: model.texts,
    own,
    every,
    starts,
    errors: { ...errors, at: unpack(errors.at), code: unpack(errors.code), late: unpack(errors.late) },
    small: { ...small, code: unpack(small.code) },
    after: unpackAfter(after),
  };
}

function unpackAfter(after) {
  if (after.inexact) return after;
  const sections = after.sections.map((section) => ({
    on: section.on,
    order: unpack(section.order),
    codes: section.codes && unpack(section.codes),
    pairs: section.pairs && unpack(section.pairs),
  }));
  return { ...after, sections, draws: after.draws && unpack(after.draws) };
}

/** The settings of the manifest: a number for each threshold. */
const settingsOf = (model) => model.thresholds.map((each) => (each.percent === null ? each.value : each.percent));

/** A decision in the making: which records are alive, which captions are in, and what took the others. */
class Decision {
  constructor(model, settings) {
    Object.assign(this, { model, settings });
    this.alive = new Uint8Array(model.rows).fill(1);
    this.isIn = new Uint8Array(model.starts[model.rows]).fill(1);
    this.fate = new Int32Array(model.rows);
    this.reasons = [["kept", "", ""]];
    this.codes = new Map();
    this.keys = ["kept"];
    this.numbers = {};
    this.missing = new Map();
    this.duplicateOf = new Int32Array(model.rows).fill(-1);
  }

  /** How many records each reason took. */
  counts() {
    const counts = new Int32Array(this.reasons.length);
    this.fate.forEach((fate) => (counts[fate] += 1));
    return counts;
  }

  rows() {
    const out = [];
    this.alive.forEach((is, row) => is && out.push(row));
    return out;
  }

  /** `id` names a gate's part whatever its number is, so that the funnels of two settings can be compared. */
  take(row, kind, stage, reason, id = reason) {
    const key = JSON.stringify([kind, stage, id]);
    if (!this.codes.has(key)) {
      this.codes.set(key, this.reasons.length);
      this.reasons.push([kind, stage, reason]);
      this.keys.push(key);
    }
    this.fate[row] = this.codes.get(key);
    this.alive[row] = 0;
  }

  /** Records that failed at a gate's stage, or (-1) before all of them. */
  quarantine(at) {
    const { errors } = this.model;
    errors.at.forEach((place, row) => {
      if (place === at && this.alive[row]) this.take(row, "quarantined", ...errors.reasons[errors.code[row]]);
    });
  }

  /** Some records with those of their captions that are still in; a record without captions has one row of its own. */
  scope(rows, late) {
    const { own, every, starts } = this.model;
    const slots = [];
    const record = [];
    for (const row of rows) {
      const captions = late ? every[row] : own[row];
      const first = starts[row] + (own[row] === 0 && captions > 0 ? 1 : 0);
      const last = first + Math.max(captions, 1);
      for (let slot = first; slot < last; slot += 1) {
        if (captions === 0 || this.isIn[slot]) {
          slots.push(slot);
          record.push(row);
        }
      }
    }
    return new Scope(rows, slots, record, false);
  }

  gate(gate, place) {
    const { model, settings, numbers } = this;
    if (gate.scored) this.quarantine(place);
    let rows = this.rows();
    if (gate.when) {
      const holds = outcome(model, gate.when, this.scope(rows, gate.late), settings, numbers);
      rows = rows.filter((_, i) => holds[i] === TRUE);
    }
    if (gate.scored) {
      const unscored = rows.filter((row) => !gate.scored[row]);
      unscored.forEach((row) => this.take(row, "unscored", gate.stage, "never scored"));
      if (unscored.length) this.missing.set(gate.stage, unscored.length);
      rows = rows.filter((row) => gate.scored[row]);
    }
    if (gate.keep) this.keep(gate, place, rows);
  }

  keep(gate, place, rows) {
    const { model, settings, numbers } = this;
    const all = this.scope(rows, gate.late);
    const scope = gate.keep.captions ? all.ofCaptions() : all;
    const outcomes = gate.keep.parts.map((part) => outcome(model, part.node, scope, settings, numbers));
    const verdict = Array.from({ length: scope.length }, (_, i) => blamed(outcomes, i));
    const drop = (row, code) =>
      this.take(row, "dropped", gate.stage, this.reason(gate.keep, code >> 1, code & 1), `${place}.${code}`);
    if (!gate.keep.captions) {
      verdict.forEach((code, i) => code >= 0 && drop(rows[i], code));
      return;
    }
    const first = new Map();
    const passes = new Set();
    verdict.forEach((code, i) => {
      const record = scope.record[i];
      if (!first.has(record)) first.set(record, code);
      if (code < 0) passes.add(record);
      else if (this.isCaption(scope.slots[i], record)) this.isIn[scope.slots[i]] = 0;
    });
    rows.forEach((row) => passes.has(row) || drop(row, first.get(row)));
  }

  /** Whether a slot is a caption, and not the row of a record to which the source gave none. */
  isCaption(slot, record) {
    return this.model.own[record] > 0 || slot > this.model.starts[record];
  }

  reason(keep, part, missing) {
    const text = textOf(this.model, keep.line, keep.parts[part], this.settings);
    return missing ? `${text} (missing value)` : text;
  }

  small() {
    const { small } = this.model;
    this.rows().forEach((row) => {
      if (small.code[row] >= 0) this.take(row, "dropped", "encode", small.reasons[small.code[row]]);
    });
  }

  failed() {
    const { errors } = this.model;
    this.rows().forEach((row) => {
      if (errors.late[row] >= 0) this.take(row, "quarantined", ...errors.reasons[errors.late[row]]);
    });
  }

  /** Best first: a record falls to a better one that is the same and was not dropped itself. */
  duplicates(section) {
    const near = section.pairs && neighbours(section.pairs);
    const holders = new Map();
    for (const row of section.order) {
      if (!this.alive[row]) continue;
      let better;
      if (section.codes) {
        better = section.codes[row] < 0 ? undefined : holders.get(section.codes[row]);
        if (better === undefined) holders.set(section.codes[row], row);
      } else {
        better = (near.get(row) || []).find((other) => holders.has(other));
        if (better === undefined) holders.set(row, row);
      }
      if (better !== undefined) {
        this.duplicateOf[row] = better;
        this.take(row, "dropped", "duplicates", section.on);
      }
    }
  }

  sample() {
    const { sample, sample_is_count: isCount, draws } = this.model.after;
    if (sample === null || sample === undefined) return;
    const rows = this.rows();
    let threshold = sample;
    if (isCount) {
      const sorted = Float64Array.from(rows, (row) => draws[row]).sort();
      threshold = sample >= rows.length ? 1 : sorted[sample];
    }
    rows
      .filter((row) => draws[row] >= threshold)
      .forEach((row) => this.take(row, "dropped", "sample", `not in the sample of ${sample}`));
  }
}

/** Twice the place of the first part that fails, a false one before a missing one, plus 1 where it is missing. */
function blamed(outcomes, i) {
  const isFalse = outcomes.findIndex((part) => part[i] === FALSE);
  if (isFalse >= 0) return 2 * isFalse;
  const isNull = outcomes.findIndex((part) => part[i] === NULL);
  return isNull < 0 ? -1 : 2 * isNull + 1;
}

function neighbours(pairs) {
  const near = new Map();
  const add = (one, other) => (near.has(one) ? near.get(one).push(other) : near.set(one, [other]));
  for (let i = 0; i < pairs.length; i += 2) {
    add(pairs[i], pairs[i + 1]);
    add(pairs[i + 1], pairs[i]);
  }
  return near;
}

/** Decide all records under some settings. */
function decide(model, settings) {
  const decision = new Decision(model, settings);
  decision.quarantine(-1);
  model.gates.forEach((gate, place) => decision.gate(gate, place));
  decision.small();
  decision.failed();
  decision.afterGates = decision.rows().length;
  if (!model.after.inexact) {
    model.after.sections.forEach((section) => decision.duplicates(section));
    decision.sample();
  }
  decision.kept = decision.rows().length;
  return decision;
}

/** A number as the manifest says it: whole for a percentile, p50. */
function written(threshold, setting) {
  if (threshold.percent !== null) return `p${String(setting).replace(".", "_")}`;
  return String(setting);
}

/** A gate's text with the settings in it; only the characters from `start` to `end`. */
function lineText(model, line, settings, start = 0, end = Infinity) {
  const own = settingsOf(model);
  let text = model.texts[line].slice(0, end);
  const moved = model.thresholds
    .map((threshold, i) => ({ threshold, i }))
    .filter(({ threshold: each, i }) => each.line === line && settings[i] !== own[i])
    .filter(({ threshold: each }) => each.start >= start && each.end <= end)
    .sort((a, b) => b.threshold.start - a.threshold.start);
  for (const { threshold, i } of moved) {
    text = text.slice(0, threshold.start) + written(threshold, settings[i]) + text.slice(threshold.end);
  }
  return text.slice(start);
}

/** A part of a gate with the settings in it: what select gives as a record's reason. */
function textOf(model, line, part, settings) {
  if (part.start < 0) return part.text;
  return lineText(model, line, settings, part.start, part.end).split(/\s+/).join(" ");
}
