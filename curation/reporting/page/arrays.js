// Arrays as `curation.reporting.packing` writes them, and numbers as people read them.

const KINDS = {
  u1: Uint8Array,
  i1: Int8Array,
  i2: Int16Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
};

/** The values of a packed array; NaN stands for null. */
function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new KINDS[packed.type](bytes.buffer);
}

const range = (n) => Int32Array.from({ length: n }, (_, i) => i);

const grouped = new Intl.NumberFormat("en-US");

/** 12,345 */
const count = (n) => grouped.format(n);

/** 12.3 %, and what is neither none nor all is never shown as 0 % or 100 %. */
function share(part, whole) {
  if (!whole) return "–";
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (percent < 100 && percent > 99.9) return "> 99.9 %";
  return `${percent.toFixed(1)} %`;
}

/** +12, −3, ±0 */
function change(n) {
  return n > 0 ? `+${count(n)}` : n < 0 ? `−${count(-n)}` : "±0";
}

/** A measured value with four digits. */
function short(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "none" : String(value);
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}
