/** What the parts of the sending have in common: what became of the logs so far. */

/** What the sending has done so far. */
export interface Progress {
	sent: number;
	rejected: number;
	adoptedWaiting: number;
	adoptedSent: number;
	adoptedDropped: number;
	spoolFailures: number;
}

/** Nothing so far. */
export function newProgress(): Progress {
	return {
		sent: 0,
		rejected: 0,
		adoptedWaiting: 0,
		adoptedSent: 0,
		adoptedDropped: 0,
		spoolFailures: 0,
	};
}
