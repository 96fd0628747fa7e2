// Figures, sizes and times as words. Everything from the server reaches the page as text only.

export function bytes(size) {
  if (typeof size !== "number") return "–";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let index = 0;
  while (size >= 999.5 && index < units.length - 1) { size /= 1000; index += 1; }
  return `${index && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[index]}`;
}

export function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Whole seconds: for what ticks.
export function elapsed(seconds) {
  return duration(Math.max(0, seconds) < 10 ? null : seconds).replace("–", `${Math.max(0, Math.floor(seconds))} s`);
}

export function ago(seconds) {
  return seconds < 2 ? "just now" : `${elapsed(seconds)} ago`;
}

// A time that nobody counts the seconds of.
export function roughly(seconds) {
  if (seconds < 120) return elapsed(seconds);
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min` : duration(seconds);
}

export function clock(time) {
  return new Date(time * 1000).toLocaleTimeString([], { hourCycle: "h23" });
}

export function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

// A metric's name for people.
export function words(name) {
  const text = name.replaceAll("_", " ");
  if (/^(auc|f1|mae|rmse|mse)\b/.test(text)) return text.replace(/^\w+/, (word) => word.toUpperCase());
  return text.replace(/^brier/, "Brier");
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Day and time, in the reader's own zone.
export function when(time) {
  if (!time) return "–";
  const at = new Date(time * 1000), short = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return at.toLocaleString("en-GB", at.getFullYear() === new Date().getFullYear() ? short : { ...short, year: "numeric" });
}

export function day(time) {
  return time ? new Date(time * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" }) : "–";
}
