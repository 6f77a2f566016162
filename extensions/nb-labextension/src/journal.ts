// What a gateway still holds of a request, page by page, through the page's own server.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection, type KernelMessage } from '@jupyterlab/services';

export interface Page {
  // To be asked for next, and the newest there is.
  after: number;
  last?: number;
  request?: { state: 'unknown' | 'waiting' | 'running' | 'over'; whole: boolean };
  entries: { seq: number; message: KernelMessage.IMessage }[];
}

// The page after an entry, the first one without; nothing when there is no such kernel.
export async function readPage(kernel: string, msgId: string, after?: number): Promise<Page | undefined> {
  const settings = ServerConnection.makeSettings();
  const query = { limit: '1000', msg_id: msgId, ...(after === undefined ? {} : { after: String(after) }) };
  const path = URLExt.join(settings.baseUrl, 'nb/kernels', encodeURIComponent(kernel), 'journal');
  const answer = await ServerConnection.makeRequest(path + URLExt.objectToQueryString(query), {}, settings);
  // 400: what has such an id was never asked.
  if (answer.status === 404 || answer.status === 400) return undefined;
  if (!answer.ok) throw new ServerConnection.ResponseError(answer);
  return (await answer.json()) as Page;
}

// Text that follows text of the same stream is one message with it: a page draws anew for each.
export function joined(said: KernelMessage.IMessage[]): KernelMessage.IMessage[] {
  const streamOf = (msg: KernelMessage.IMessage | undefined) =>
    msg?.header.msg_type === 'stream' ? (msg.content as { name: string; text: string }) : undefined;
  const all: KernelMessage.IMessage[] = [];
  let texts: string[] = [];
  for (const [at, msg] of said.entries()) {
    const [stream, next] = [streamOf(msg), streamOf(said[at + 1])];
    if (!stream) {
      all.push(msg);
      continue;
    }
    texts.push(stream.text);
    if (next?.name === stream.name) continue;
    all.push({ ...msg, content: { ...stream, text: texts.join('') } } as KernelMessage.IMessage);
    texts = [];
  }
  return all;
}
