// A script's side of the cutter (tests/it/cutter.rs): a cell of numbered lines, the cut, what has to be there.

import { createConnection } from 'node:net';
import { text } from 'node:stream/consumers';

const COUNT = 80;

// About 8 s; each line is a message of its own.
export const CELL = `import time
for n in range(${COUNT}):
    print("line", n, flush=True)
    time.sleep(0.1)
print("the end")`;

// The line after which the cut comes.
export const FIRST = 'line 9\n';

// Cuts ('fin' or 'rst') and refuses all connections for a while. Gives how many lines may come twice: those after
// the last WebSocket ping but one, since a gateway pings again only when the ping before is answered.
export async function cut(port, how, absentMs) {
  const socket = createConnection(port, '127.0.0.1');
  socket.write(`cut ${how} ${absentMs}\n`);
  const answer = await text(socket);
  if (!/^\d+$/.test(answer)) throw new Error(`the cutter says: ${answer}`);
  return Number(answer);
}

// All lines are there, in order; after the cut at most `twice` of the last ones come again. Gives how many did.
export function complete(output, twice) {
  const numbers = [...output.matchAll(/^line (\d+)$/gm)].map(([, n]) => Number(n));
  const back = numbers.findIndex((n, at) => at > 0 && n !== numbers[at - 1] + 1);
  const repeated = back < 0 ? 0 : numbers[back - 1] + 1 - numbers[back];
  const expected = [...Array(COUNT).keys()];
  if (repeated > 0) expected.splice(back, 0, ...expected.slice(back - repeated, back));
  const is = numbers.join() === expected.join() && output.trimEnd().endsWith('\nthe end');
  if (!is || repeated < 0 || repeated > twice) {
    throw new Error(`lines are lost, out of order, or more than ${twice} come twice:\n${output}`);
  }
  return repeated;
}
