// A transport of pino that throws everything away.
import { createWriteStream } from "node:fs";

export default function nullTransport() {
	return createWriteStream("/dev/null");
}
