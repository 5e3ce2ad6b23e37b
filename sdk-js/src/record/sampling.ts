/** Which logs are kept where only a share of a level is. Pure. */

import { Level } from "./record.js";

/** Whether a log is kept. `draw` gives a random share, 0 up to 1. */
export function isKept(
	rates: ReadonlyMap<Level, number>,
	level: number,
	draw: () => number,
): boolean {
	if (rates.size === 0) {
		return true;
	}
	// A log without a level counts as INFO.
	const known = level === Level.UNSPECIFIED ? Level.INFO : (level as Level);
	const rate = rates.get(known);
	return rate === undefined || draw() < rate;
}
