// What an expression of `keep:` says of records or captions, as curation/predicates.py has it: true, false or null.
// A NaN among values stands for null. Values and numbers are in the precision in which scores are stored.

const FALSE = 0;
const TRUE = 1;
const NULL = 2;
const WHOLE = 2 ** 24;

/** Whole numbers as they are, fractions rounded to float32. */
function stored(number) {
  return Number.isInteger(number) || Math.abs(number) >= WHOLE ? number : Math.fround(number);
}

/** Of known values; linear interpolation with numpy's rounding, NaN of none. */
function percentile(values, percent) {
  const known = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  if (!known.length) return NaN;
  const place = (percent / 100) * (known.length - 1);
  const [lower, upper] = [Math.floor(place), Math.ceil(place)];
  const [below, above] = [known[lower], known[upper]];
  const part = place - lower;
  if (!Number.isFinite(known[0]) || !Number.isFinite(known[known.length - 1])) {
    const finite = Number.isFinite(below) && Number.isFinite(above);
    return finite ? below + (above - below) * part : above;
  }
  return part >= 0.5 ? above - (above - below) * (1 - part) : below + (above - below) * part;
}

const COMPARE = {
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};
const MIRRORED = { "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=" };

/** The operator as it reads with the column on its left. */
const operatorOf = (threshold) => (threshold.reversed ? MIRRORED[threshold.operator] : threshold.operator);

/**
 * The captions of some records: `slots` are their places among all captions, `record` whose each is (its place among
 * all records). `rows` are the records themselves.
 */
class Scope {
  constructor(rows, slots, record, single) {
    Object.assign(this, { rows, slots, record, single });
  }

  get length() {
    return this.single ? this.slots.length : this.rows.length;
  }

  ofCaptions() {
    return new Scope(this.rows, this.slots, this.record, true);
  }

  /** Where the values of a record's or a caption's column stand. */
  at(ofCaptions) {
    if (ofCaptions) return this.slots;
    return this.single ? this.record : this.rows;
  }
}

/** Outcomes (Uint8Array) of a test over a scope; `numbers` receives each threshold's resolved number. */
function outcome(model, test, scope, settings, numbers) {
  if (test.is === "known") return known(model, test, scope);
  if (test.is === "compare") return compare(model, test, scope, settings, numbers);
  if (test.is === "not") {
    return outcome(model, test.of[0], scope, settings, numbers).map((o) => (o === NULL ? NULL : 1 - o));
  }
  if (test.is === "and" || test.is === "or") {
    const parts = test.of.map((part) => outcome(model, part, scope, settings, numbers));
    return parts.reduce((one, other) => junction(test.is, one, other));
  }
  return ofCaptions(model, test, scope, settings, numbers);
}

function known(model, test, scope) {
  const values = model.outcomes[test.at];
  const at = scope.at(test.captions);
  return Uint8Array.from(at, (place) => values[place]);
}

/** SQL's logic: false and null is false, true or null is true. */
function junction(word, one, other) {
  const strong = word === "and" ? FALSE : TRUE;
  return one.map((o, i) => {
    if (o === strong || other[i] === strong) return strong;
    return o === NULL || other[i] === NULL ? NULL : 1 - strong;
  });
}

function compare(model, test, scope, settings, numbers) {
  const threshold = model.thresholds[test.threshold];
  const column = model.columns[threshold.column];
  const values = column.values;
  const at = scope.at(column.captions);
  const number = resolved(threshold, column, scope, at, settings[test.threshold]);
  numbers[test.threshold] = number;
  const holds = COMPARE[operatorOf(threshold)];
  return Uint8Array.from(at, (place) => {
    const value = values[place];
    if (Number.isNaN(value) || Number.isNaN(number)) return NULL;
    return holds(value, number) ? TRUE : FALSE;
  });
}

/** What a threshold compares with: the number, or the percentile of the records (or captions) that are asked. */
function resolved(threshold, column, scope, at, setting) {
  if (threshold.percent === null) return stored(setting);
  let places = at;
  if (scope.single && !column.captions) places = at.filter((place, i) => i === 0 || at[i - 1] !== place);
  return stored(percentile(Array.from(places, (place) => column.values[place]), setting));
}

/** any(), all() and main(): of each record, from the same test of each of its captions that is still in. */
function ofCaptions(model, test, scope, settings, numbers) {
  const inner = outcome(model, test.of[0], scope.ofCaptions(), settings, numbers);
  const found = new Map();
  scope.record.forEach((record, i) => {
    const first = !found.has(record);
    if (test.is === "main") {
      if (first) found.set(record, inner[i]);
      return;
    }
    const holds = inner[i] === TRUE;
    const before = first ? test.is === "all" : found.get(record) === TRUE;
    found.set(record, (test.is === "all" ? before && holds : before || holds) ? TRUE : FALSE);
  });
  return Uint8Array.from(scope.single ? scope.record : scope.rows, (record) => found.get(record));
}
