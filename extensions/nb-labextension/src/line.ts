// A connection to a kernel of which the server knows nothing any more: packets vanished for a while, it was ended, and
// nobody could tell the page. A browser's own pings are not a page's to see, so the server is asked.

import { URLExt } from '@jupyterlab/coreutils';
import { KernelAPI, ServerConnection, type Kernel } from '@jupyterlab/services';

// So long a kernel says nothing before its server is asked.
const SILENT_MS = 15_000;

const ANSWER_WITHIN_MS = 10_000;

// Watches a connection until the function that is returned is called.
export function watchLine(kernel: Kernel.IKernelConnection): () => void {
  let heard = false;
  let isAsking = false;
  const hears = () => {
    heard = true;
  };
  const look = async () => {
    const isSilent = !heard;
    heard = false;
    if (!isSilent || isAsking || kernel.isDisposed) return;
    isAsking = true;
    try {
      if ((await isGone(kernel)) && !heard && !kernel.isDisposed) await kernel.reconnect();
    } catch (error) {
      console.debug('nb: the server cannot be asked for its connection', error);
    } finally {
      isAsking = false;
    }
  };
  const timer = setInterval(() => void look(), SILENT_MS);
  const stop = () => {
    clearInterval(timer);
    kernel.iopubMessage.disconnect(hears);
    kernel.disposed.disconnect(stop);
  };
  kernel.iopubMessage.connect(hears);
  kernel.disposed.connect(stop);
  return stop;
}

// Whether the server does not have the connection any more.
async function isGone(kernel: Kernel.IKernelConnection): Promise<boolean> {
  const status = kernel.connectionStatus;
  // Lab is at it.
  if (status === 'connecting' || kernel.status === 'dead') return false;
  const answer = await ask(kernel);
  if (answer !== 'no' || kernel.connectionStatus !== status) return false;
  // Lab gives up after some attempts, and also when the kernel is gone.
  return status === 'connected' || (await KernelAPI.getKernelModel(kernel.id)) !== undefined;
}

// Over a WebSocket: requests wait behind those that vanished, since a browser has few connections for them.
function ask(kernel: Kernel.IKernelConnection): Promise<string> {
  const { wsUrl, token, appendToken, WebSocket } = ServerConnection.makeSettings();
  const path = URLExt.join(wsUrl, 'nb/kernels', encodeURIComponent(kernel.id), 'line');
  const query = { session_id: kernel.clientId, ...(appendToken && token !== '' ? { token } : {}) };
  const socket = new WebSocket(path + URLExt.objectToQueryString(query));
  return new Promise<string>((answered, failed) => {
    const late = setTimeout(() => failed(new Error('no answer')), ANSWER_WITHIN_MS);
    socket.onmessage = ({ data }: MessageEvent<string>) => answered(data);
    socket.onclose = () => {
      clearTimeout(late);
      failed(new Error('no answer'));
    };
  }).finally(() => socket.close());
}
