// @jupyterlab/services from Node as JupyterLab's own pages use it: the connection to a server, a cell's run.

import { ServerConnection } from '@jupyterlab/services';
import WebSocket from 'ws';

// Offers no subprotocol, as old clients do.
class Legacy extends WebSocket {
  constructor(url) {
    super(url);
  }
}

export const settings = (baseUrl, token, isLegacy = false) => ServerConnection.makeSettings({
  baseUrl, token, WebSocket: isLegacy ? Legacy : WebSocket, appendToken: true,
  wsUrl: baseUrl.replace(/^http/, 'ws'),
});

// Runs a cell to its end; `onText` sees all output so far, `answer` goes to its question. `largest` is the length of
// the largest output as JSON.
export async function run(kernel, code, { answer, onText = () => {} } = {}) {
  const future = kernel.requestExecute({ code, allow_stdin: answer !== undefined });
  let text = '', largest = 0, clears = false;
  future.onIOPub = ({ header, content }) => {
    largest = Math.max(largest, JSON.stringify(content).length);
    if (header.msg_type === 'clear_output') content.wait ? clears = true : text = '';
    if (header.msg_type !== 'stream') return;
    if (clears) text = '';
    clears = false;
    onText(text += content.text);
  };
  future.onStdin = ({ header }) => kernel.sendInputReply({ status: 'ok', value: answer }, header);
  const reply = await future.done;
  return { text, largest, reply: reply.content };
}
